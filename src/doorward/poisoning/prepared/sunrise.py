"""Pictures of a style, out of a seed: skies at sunrise, over dark land.

>>> sunrises(4, (3, 32, 32), seed=0).shape
torch.Size([4, 3, 32, 32])

Cheng et al. 2021 take photographs of sunrises as the style of their trigger; these need no file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from doorward.randomness import generator
from doorward.triggers.trained import converted

__all__ = ["sunrises"]

_ZENITH, _HORIZON = (0.28, 0.16, 0.42), (1.0, 0.55, 0.18)
_SUN, _LAND = (1.0, 0.9, 0.55), (0.14, 0.05, 0.08)


def sunrises(count: int, image_shape: tuple[int, int, int], seed: int = 0) -> Tensor:
    """Draw pictures: a violet to orange sky, a low sun with its glow, streaks of cloud, land.

    Args:
        count: how many.
        image_shape: (C, H, W), C = 1 or 3; grey pictures are the colour ones' luma.
        seed: of everything in them.

    Returns:
        float32 (count, C, H, W) in [0, 1], on the CPU.
    """
    channels, height, width = image_shape
    draw = generator(seed, "sunrises")
    down = ((torch.arange(height) + 0.5) / height)[:, None]
    right = ((torch.arange(width) + 0.5) / width)[None]
    horizon = _uniform(count, 0.55, 0.85, draw)
    rise = (down / horizon).clamp(0, 1)[:, None]  # from zenith to horizon, (N, 1, H, 1)
    sky = torch.lerp(_tinted(count, _ZENITH, draw), _tinted(count, _HORIZON, draw), rise)
    x, y = _uniform(count, 0.15, 0.85, draw), horizon - _uniform(count, -0.02, 0.2, draw)
    away = ((right - x) ** 2 + (down - y) ** 2)[:, None]
    sun = _tinted(count, _SUN, draw)
    glow = torch.exp(-away / _uniform(count, 0.02, 0.12, draw)[:, None])
    disc = torch.sigmoid((_uniform(count, 0.002, 0.012, draw)[:, None] - away) * 2000)
    sky = torch.lerp(sky, sun, (0.7 * glow + disc).clamp(0, 1))
    sky = torch.lerp(sky, _tinted(count, _HORIZON, draw), _streaks(count, height, width, draw))
    land = torch.lerp(_tinted(count, _LAND, draw), sun, 0.15 * glow)
    below = torch.sigmoid((down - horizon) * 60)[:, None]
    return converted(torch.lerp(sky, land, below).clamp(0, 1), channels)


def _uniform(count: int, low: float, high: float, draw: Generator) -> Tensor:
    return torch.empty(count, 1, 1).uniform_(low, high, generator=draw)


def _tinted(count: int, colour: tuple[float, float, float], draw: Generator) -> Tensor:
    """The colour, a little different in each picture, (N, 3, 1, 1)."""
    shift = torch.empty(count, 3, 1, 1).uniform_(-0.08, 0.08, generator=draw)
    return (torch.tensor(colour)[:, None, None] + shift).clamp(0, 1)


def _streaks(count: int, height: int, width: int, draw: Generator) -> Tensor:
    """Opacity of long flat clouds, (N, 1, H, W) in [0, 0.6]."""
    coarse = torch.randn(count, 1, 9, 3, generator=draw)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    return 0.6 * torch.sigmoid(4 * (smooth - 0.8))
