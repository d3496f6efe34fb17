"""Models: the zoo, surgery, checks, and models that only answer.

>>> import torch
>>> from doorward.models import create, features, find_head
>>> model = create("resnet8", classes=10)
>>> model(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 10])
>>> features(model, torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 128])
"""

from doorward.models.classifier import Body, Classifier
from doorward.models.modes import evaluating
from doorward.models.surgery import capture, features, find_head, replace_head, site, sites
from doorward.models.zoo import ARCHITECTURES, create

__all__ = [
    "ARCHITECTURES",
    "Body",
    "Classifier",
    "capture",
    "create",
    "evaluating",
    "features",
    "find_head",
    "replace_head",
    "site",
    "sites",
]
