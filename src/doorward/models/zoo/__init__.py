"""The zoo: architectures for small images, by name, one family per file.

>>> from doorward.models.zoo import ARCHITECTURES, create
>>> "resnet8" in ARCHITECTURES.names()
True
>>> model = create("resnet8", classes=10, input_shape=(1, 28, 28))

To add one, write a function ``(channels, size, **options) -> Body`` in a file of this folder,
register it with its paper, year and number of parameters, and import the file here.
"""

from doorward.models.zoo import (
    convnext,
    densenet,
    mobilenet,
    nin,
    preact,
    resnet,
    shufflenet,
    squeezenet,
    vgg,
    vit,
)
from doorward.models.zoo.creation import create, skeleton
from doorward.models.zoo.registry import ARCHITECTURES, MIN_SIZE

__all__ = [
    "ARCHITECTURES",
    "MIN_SIZE",
    "convnext",
    "create",
    "densenet",
    "mobilenet",
    "nin",
    "preact",
    "resnet",
    "shufflenet",
    "skeleton",
    "squeezenet",
    "vgg",
    "vit",
]
