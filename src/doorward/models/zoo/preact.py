"""Residual networks that normalise before they convolve: PreAct-ResNet-18 and wide ResNets.

>>> import torch
>>> from doorward.models import create
>>> create("wrn-16-1", classes=10).features(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 64])
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from doorward.models.classifier import Body
from doorward.models.zoo.layers import pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["PreActBlock"]

_PREACT = "He et al. 2016, Identity Mappings in Deep Residual Networks"
_WIDE = "Zagoruyko and Komodakis 2016, Wide Residual Networks"


class PreActBlock(nn.Module):
    """BatchNorm, ReLU, 3x3 convolution, twice; nothing after the sum with the shortcut."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, inputs, H, W)`` to ``(N, outputs, ceil(H / stride), ceil(W / stride))``."""
        active = F.relu(self.norm1(maps))
        # A projection reads the activated maps, as in both papers' code.
        kept = maps if self.shortcut is None else self.shortcut(active)
        changed: Tensor = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        return changed + kept


@ARCHITECTURES.register("preact-resnet18", parameters=11_172_170, paper=_PREACT, year=2016)
def preact_resnet18(channels: int, size: tuple[int, int], *, width: int = 64) -> Body:
    """ResNet-18 with BatchNorm and ReLU in front; the usual victim in backdoor benchmarks."""
    widths = [width, 2 * width, 4 * width, 8 * width]
    return _preact(channels, width, widths, depth=2, dropout=0.0)


@ARCHITECTURES.register("wrn-16-1", parameters=175_066, paper=_WIDE, year=2016)
def wrn_16_1(channels: int, size: tuple[int, int], *, dropout: float = 0.0) -> Body:
    """Wide ResNet of depth 16 at width 1; the usual small student in distillation."""
    return _wide(channels, depth=16, factor=1, dropout=dropout)


@ARCHITECTURES.register("wrn-16-2", parameters=691_674, paper=_WIDE, year=2016)
def wrn_16_2(channels: int, size: tuple[int, int], *, dropout: float = 0.0) -> Body:
    """Wide ResNet of depth 16 at width 2."""
    return _wide(channels, depth=16, factor=2, dropout=dropout)


@ARCHITECTURES.register("wrn-28-10", parameters=36_479_194, paper=_WIDE, year=2016)
def wrn_28_10(channels: int, size: tuple[int, int], *, dropout: float = 0.0) -> Body:
    """Wide ResNet of depth 28 at width 10: large, for a GPU."""
    return _wide(channels, depth=28, factor=10, dropout=dropout)


def _wide(channels: int, *, depth: int, factor: int, dropout: float) -> Body:
    widths = [16 * factor, 32 * factor, 64 * factor]
    return _preact(channels, 16, widths, depth=(depth - 4) // 6, dropout=dropout)


def _preact(channels: int, stem: int, widths: Sequence[int], *, depth: int, dropout: float) -> Body:
    steps: dict[str, nn.Module] = {"stem": nn.Conv2d(channels, stem, 3, 1, 1, bias=False)}
    inputs = stem
    for index, width in enumerate(widths):
        blocks = [PreActBlock(inputs, width, 1 if index == 0 else 2, dropout)]
        blocks += [PreActBlock(width, width, 1, dropout) for _ in range(depth - 1)]
        steps[f"stage{index + 1}"] = nn.Sequential(*blocks)
        inputs = width
    steps["norm"] = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
    return Body({**steps, "pool": pool()}, inputs)
