"""ConvNeXt-Atto for small images: the stem halves the image once instead of twice.

>>> import torch
>>> from doorward.models import create
>>> model = create("convnext-atto", classes=10, input_shape=(3, 17, 17))
>>> model.features(torch.rand(2, 3, 17, 17)).shape
torch.Size([2, 320])

The widths and depths are those that ConvNeXt V2 named "Atto"; the blocks are the first version's
(layer scale, no response normalisation, no stochastic depth).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.models.classifier import Body
from doorward.models.zoo.layers import pool
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["ChannelNorm", "ConvNextBlock"]

_LAYER_SCALE = 1e-6
"""Initial weight of each block's branch (the paper's value)."""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of ``(N, C, H, W)`` maps, at each position."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name LayerNorm gives it
        """``(N, C, H, W)`` to the same shape."""
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ConvNextBlock(nn.Module):
    """7x7 filter per channel, LayerNorm, perceptron of four times the width, scaled shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.scale = nn.Parameter(torch.empty(width))

    def reset(self, draw: torch.Generator) -> None:
        """Start near the identity."""
        self.scale.fill_(_LAYER_SCALE)

    def forward(self, maps: Tensor) -> Tensor:
        """``(N, width, H, W)`` to the same shape."""
        rows: Tensor = self.norm(self.depthwise(maps).permute(0, 2, 3, 1))  # (N, H, W, width)
        rows = self.narrow(F.gelu(self.widen(rows))) * self.scale
        return maps + rows.permute(0, 3, 1, 2)


@ARCHITECTURES.register(
    "convnext-atto",
    parameters=3_376_290,
    paper="Liu et al. 2022, A ConvNet for the 2020s",
    year=2022,
)
def convnext_atto(channels: int, size: tuple[int, int], *, width: int = 40) -> Body:
    """A convolutional network built like a transformer."""
    steps: dict[str, nn.Module] = {
        "stem": nn.Sequential(nn.Conv2d(channels, width, 2, 2), ChannelNorm(width, eps=1e-6))
    }
    for index, depth in enumerate((2, 2, 6, 2)):
        if index:
            steps[f"halve{index}"] = nn.Sequential(
                ChannelNorm(width, eps=1e-6), nn.Conv2d(width, 2 * width, 2, 2)
            )
            width *= 2
        steps[f"stage{index + 1}"] = nn.Sequential(*[ConvNextBlock(width) for _ in range(depth)])
    return Body({**steps, "pool": pool(), "norm": nn.LayerNorm(width, eps=1e-6)}, width)
