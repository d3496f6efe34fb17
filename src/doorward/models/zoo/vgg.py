"""VGG with BatchNorm, in its usual small-image form: one linear layer behind the convolutions.

>>> import torch
>>> from doorward.models import create
>>> create("vgg11-bn", classes=10, width=8).features(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 64])
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["vgg11_bn", "vgg16_bn"]

_PAPER = "Simonyan and Zisserman 2015, Very Deep Convolutional Networks"


@ARCHITECTURES.register("vgg11-bn", parameters=9_228_362, paper=_PAPER, year=2015)
def vgg11_bn(channels: int, size: tuple[int, int], *, width: int = 64) -> Body:
    """Eight plain convolutions with BatchNorm."""
    return _vgg(channels, size, width, [1, 1, 2, 2, 2])


@ARCHITECTURES.register("vgg16-bn", parameters=14_724_042, paper=_PAPER, year=2015)
def vgg16_bn(channels: int, size: tuple[int, int], *, width: int = 64) -> Body:
    """Thirteen plain convolutions with BatchNorm."""
    return _vgg(channels, size, width, [2, 2, 3, 3, 3])


def _vgg(channels: int, size: tuple[int, int], width: int, depths: Sequence[int]) -> Body:
    steps: dict[str, nn.Module] = {}
    inputs, shortest = channels, min(size)
    for index, depth in enumerate(depths):
        outputs = width * min(2**index, 8)
        layers = [conv_bn(inputs if k == 0 else outputs, outputs, 3) for k in range(depth)]
        steps[f"stage{index + 1}"] = nn.Sequential(*layers)
        if shortest >= 2:  # below 32 pixels there is nothing left for the last pooling to halve
            steps[f"halve{index + 1}"] = nn.MaxPool2d(2)
            shortest //= 2
        inputs = outputs
    return Body({**steps, "pool": pool()}, inputs)
