"""Residual networks for small images.

>>> from doorward.models import create
>>> model = create("resnet8", classes=10, width=16)
>>> sum(weight.numel() for weight in model.parameters())
78042

All keep the full resolution in the stem (3x3, stride 1, no pooling) and widen where they halve it.
The shortcut of a block that changes shape is a 1x1 convolution (the paper's option B).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from doorward.models.classifier import Body
from doorward.models.zoo.layers import conv_bn, pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["BasicBlock"]

_PAPER = "He et al. 2016, Deep Residual Learning for Image Recognition"


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them, ReLU after the sum."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv_bn(inputs, outputs, 3, stride=stride)
        self.conv2 = conv_bn(outputs, outputs, 3, activation=None)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = conv_bn(inputs, outputs, 1, stride=stride, activation=None)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``."""
        return F.relu(self.conv2(self.conv1(maps)) + self.shortcut(maps))


@ARCHITECTURES.register("resnet8", parameters=308_650, paper=_PAPER, year=2016)
def resnet8(channels: int, size: tuple[int, int], *, width: int = 32) -> Body:
    """Three wide residual blocks: the quick one, for CPUs and tests."""
    return _resnet(channels, [width, 2 * width, 4 * width], [1, 1, 1])


@ARCHITECTURES.register("resnet20", parameters=272_474, paper=_PAPER, year=2016)
def resnet20(channels: int, size: tuple[int, int], *, width: int = 16) -> Body:
    """The paper's smallest CIFAR network, nine narrow blocks."""
    return _resnet(channels, [width, 2 * width, 4 * width], [3, 3, 3])


@ARCHITECTURES.register("resnet18", parameters=11_173_962, paper=_PAPER, year=2016)
def resnet18(channels: int, size: tuple[int, int], *, width: int = 64) -> Body:
    """The ImageNet ResNet-18 with a stem for small images; most papers' default."""
    return _resnet(channels, [width, 2 * width, 4 * width, 8 * width], [2, 2, 2, 2])


@ARCHITECTURES.register("resnet34", parameters=21_282_122, paper=_PAPER, year=2016)
def resnet34(channels: int, size: tuple[int, int], *, width: int = 64) -> Body:
    """The ImageNet ResNet-34 with a stem for small images."""
    return _resnet(channels, [width, 2 * width, 4 * width, 8 * width], [3, 4, 6, 3])


def _resnet(channels: int, widths: Sequence[int], depths: Sequence[int]) -> Body:
    steps: dict[str, nn.Module] = {"stem": conv_bn(channels, widths[0], 3)}
    inputs = widths[0]
    for index, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        blocks = [BasicBlock(inputs, width, stride=1 if index == 0 else 2)]
        blocks += [BasicBlock(width, width) for _ in range(depth - 1)]
        steps[f"stage{index + 1}"] = nn.Sequential(*blocks)
        inputs = width
    return Body({**steps, "pool": pool()}, inputs)
