"""SqueezeNet 1.1 for small images, with BatchNorm so that it trains by the same recipes.

>>> import torch
>>> from doorward.models import create
>>> model = create("squeezenet", classes=10, input_shape=(3, 16, 16))
>>> model.features(torch.rand(2, 3, 16, 16)).shape
torch.Size([2, 512])

The stem keeps the resolution. As in `nin`, a linear head on averaged maps stands for the paper's
last 1x1 convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["Fire"]


class Fire(nn.Module):
    """Squeeze to few channels by 1x1, then widen by 1x1 and 3x3 side by side."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = conv_bn(inputs, squeezed, 1)
        self.point = conv_bn(squeezed, outputs // 2, 1)
        self.wide = conv_bn(squeezed, outputs // 2, 3)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, H, W)``."""
        squeezed = self.squeeze(maps)
        return torch.cat([self.point(squeezed), self.wide(squeezed)], dim=1)


@ARCHITECTURES.register(
    "squeezenet",
    parameters=730_570,
    paper="Iandola et al. 2016, SqueezeNet: AlexNet-Level Accuracy with 50x Fewer Parameters",
    year=2016,
)
def squeezenet(channels: int, size: tuple[int, int], *, dropout: float = 0.5) -> Body:
    """Fire modules: under a million weights."""
    return Body(
        {
            "stem": conv_bn(channels, 64, 3),
            "halve1": nn.MaxPool2d(3, 2, 1),
            "stage1": nn.Sequential(Fire(64, 16, 128), Fire(128, 16, 128)),
            "halve2": nn.MaxPool2d(3, 2, 1),
            "stage2": nn.Sequential(Fire(128, 32, 256), Fire(256, 32, 256)),
            "halve3": nn.MaxPool2d(3, 2, 1),
            "stage3": nn.Sequential(
                Fire(256, 48, 384), Fire(384, 48, 384), Fire(384, 64, 512), Fire(512, 64, 512)
            ),
            "pool": pool(),
            "dropout": nn.Dropout(dropout),
        },
        512,
    )
