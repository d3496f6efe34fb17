"""Network in Network, with BatchNorm so that it trains by the same recipes as the rest.

>>> import torch
>>> from doorward.models import create
>>> model = create("nin", classes=10, input_shape=(3, 17, 17))
>>> model.features(torch.rand(2, 3, 17, 17)).shape
torch.Size([2, 192])

The paper's last 1x1 convolution makes one map per class and averages each; a linear head on
averaged maps is the same function, and can be found, read and replaced like any other head.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["nin"]


@ARCHITECTURES.register(
    "nin", parameters=968_394, paper="Lin et al. 2014, Network In Network", year=2014
)
def nin(channels: int, size: tuple[int, int], *, dropout: float = 0.5) -> Body:
    """Small perceptrons slid over the image, no fully connected block."""
    return Body(
        {
            "block1": _mlp_conv(channels, 5, (192, 160, 96)),
            "halve1": nn.MaxPool2d(3, 2, 1),
            "dropout1": nn.Dropout(dropout),
            "block2": _mlp_conv(96, 5, (192, 192, 192)),
            "halve2": nn.AvgPool2d(3, 2, 1),
            "dropout2": nn.Dropout(dropout),
            "block3": _mlp_conv(192, 3, (192, 192)),
            "pool": pool(),
        },
        192,
    )


def _mlp_conv(inputs: int, kernel: int, widths: tuple[int, ...]) -> nn.Sequential:
    layers = [conv_bn(inputs, widths[0], kernel)]
    for before, after in pairwise(widths):
        layers.append(conv_bn(before, after, 1))
    return nn.Sequential(*layers)
