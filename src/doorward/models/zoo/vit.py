"""Vision transformers with small patches, for small images.

>>> import torch
>>> from doorward.models import create
>>> model = create("vit-tiny", classes=10, depth=2, width=48)
>>> model.features(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 48])

An image that is no whole number of patches is padded with the mean at its right and lower edge.
Features are the mean of all tokens (no class token); there is no stochastic depth.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.errors import InvalidInput
from doorward.models.classifier import Body
from doorward.models.zoo.registry import ARCHITECTURES

__all__ = ["Attention", "EncoderBlock", "Patches"]

_PAPER = "Dosovitskiy et al. 2021, An Image is Worth 16x16 Words"


class Patches(nn.Module):
    """Images ``(N, C, H, W)`` to tokens ``(N, T, width)`` with learned positions."""

    def __init__(self, channels: int, size: tuple[int, int], patch: int, width: int) -> None:
        super().__init__()
        rows, columns = (math.ceil(length / patch) for length in size)
        self.padding = (0, columns * patch - size[1], 0, rows * patch - size[0])
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, rows * columns, width))

    def reset(self, draw: torch.Generator) -> None:
        """Draw the positions."""
        self.positions.normal_(0, 0.02, generator=draw)

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images to tokens."""
        tokens: Tensor = self.embed(F.pad(images, self.padding)).flatten(2).transpose(1, 2)
        return tokens + self.positions


class Attention(nn.Module):
    """Multi-head self-attention over tokens ``(N, T, width)``."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, T, width)`` to the same shape."""
        split = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = split.unbind(0)  # each (N, heads, T, width / heads)
        mixed = F.scaled_dot_product_attention(query, key, value)
        joined: Tensor = self.join(mixed.transpose(1, 2).flatten(2))
        return joined


class EncoderBlock(nn.Module):
    """Attention, then a perceptron of four times the width, each behind LayerNorm and residual."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, T, width)`` to the same shape."""
        tokens = tokens + self.dropout(self.attention(self.norm1(tokens)))
        refined: Tensor = tokens + self.dropout(self.perceptron(self.norm2(tokens)))
        return refined


class _MeanToken(nn.Module):
    """Mean over the tokens: ``(N, T, width)`` to ``(N, width)``."""

    def forward(self, tokens: Tensor) -> Tensor:
        """``(N, T, width)`` to ``(N, width)``."""
        return tokens.mean(dim=1)


@ARCHITECTURES.register("vit-tiny", parameters=5_362_378, paper=_PAPER, year=2021)
def vit_tiny(
    channels: int,
    size: tuple[int, int],
    *,
    patch: int = 4,
    width: int = 192,
    depth: int = 12,
    heads: int = 3,
    dropout: float = 0.0,
) -> Body:
    """The ViT-Ti of the literature with 4x4 patches."""
    return _vit(channels, size, patch, width, depth, heads, dropout)


@ARCHITECTURES.register("vit-small", parameters=21_341_578, paper=_PAPER, year=2021)
def vit_small(
    channels: int,
    size: tuple[int, int],
    *,
    patch: int = 4,
    width: int = 384,
    depth: int = 12,
    heads: int = 6,
    dropout: float = 0.0,
) -> Body:
    """The ViT-S of the literature with 4x4 patches."""
    return _vit(channels, size, patch, width, depth, heads, dropout)


def _vit(
    channels: int,
    size: tuple[int, int],
    patch: int,
    width: int,
    depth: int,
    heads: int,
    dropout: float,
) -> Body:
    if width % heads:
        raise InvalidInput(
            f"width {width} is no multiple of {heads} heads", remedy="change width or heads"
        )
    if patch > min(size):
        raise InvalidInput(f"patch {patch} is larger than the image {size[0]}x{size[1]}")
    return Body(
        {
            "patches": Patches(channels, size, patch, width),
            "blocks": nn.Sequential(*[EncoderBlock(width, heads, dropout) for _ in range(depth)]),
            "norm": nn.LayerNorm(width, eps=1e-6),
            "pool": _MeanToken(),
        },
        width,
    )
