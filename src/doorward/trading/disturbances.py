"""What happens to images on their way: small shifts, noise, blur and JPEG, all differentiable.

>>> images = torch.rand(8, 3, 16, 16)
>>> disturbed(images, torch.Generator().manual_seed(0)).shape
torch.Size([8, 3, 16, 16])

A trigger that is learnt under them survives them (expectation over transformations, Athalye et al.
2018). JPEG is its lossy part alone: blocks of 8x8, cosine transform, and the rounding of the
coefficients, whose slope is taken to be one.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["blurred", "compressed", "disturbed", "noisy", "shifted"]

_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip
"""The quantisation table of the JPEG standard (ITU-T T.81, annex K)."""


def disturbed(images: Tensor, draw: torch.Generator) -> Tensor:
    """A quarter of the batch each: shifted, noisy, blurred, compressed.

    Args:
        images: float (N, C, H, W) in [0, 1].
        draw: decides which and how much; on the CPU.
    """
    parts = list(images.tensor_split(4))
    level = float(torch.rand((), generator=draw))
    parts[0] = shifted(parts[0], *torch.randint(-2, 3, (2,), generator=draw).tolist())
    parts[1] = noisy(parts[1], 0.03 * level, draw)
    parts[2] = blurred(parts[2], 0.3 + 0.4 * level)
    parts[3] = compressed(parts[3], 50 + 45 * level)
    return torch.cat(parts).clamp(0, 1)


def shifted(images: Tensor, down: int, right: int) -> Tensor:
    """Moved by whole pixels; the edge is repeated."""
    height, width = images.shape[2:]
    rows = (torch.arange(height, device=images.device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) - right).clamp(0, width - 1)
    return images[:, :, rows][:, :, :, columns]


def noisy(images: Tensor, deviation: float, draw: torch.Generator) -> Tensor:
    """With Gaussian noise."""
    return images + deviation * torch.randn(images.shape, generator=draw).to(images)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Through a Gaussian of 3x3 pixels."""
    side = math.exp(-0.5 / sigma**2)
    line = images.new_tensor([side, 1.0, side]) / (1 + 2 * side)
    kernel = (line[:, None] * line).expand(images.shape[1], 1, 3, 3)
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    return F.conv2d(padded, kernel, groups=images.shape[1])


def compressed(images: Tensor, quality: float) -> Tensor:
    """As JPEG at this quality (1 to 100) leaves them, each channel as if it were luminance."""
    height, width = images.shape[2:]
    padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
    blocks = (padded.float() * 255 - 128).unfold(2, 8, 8).unfold(3, 8, 8)
    cosines = _cosines().to(blocks)
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    table = (torch.tensor(_LUMINANCE, dtype=torch.float32) * scale / 100).clamp(min=1).to(blocks)
    levels = cosines @ blocks @ cosines.T / table
    rounded = levels + (levels.round() - levels).detach()
    restored = (cosines.T @ (rounded * table) @ cosines + 128) / 255
    whole = restored.permute(0, 1, 2, 4, 3, 5).reshape(padded.shape)
    return whole[:, :, :height, :width].to(images.dtype)


def _cosines() -> Tensor:
    """The orthonormal 8-point cosine transform (DCT-II)."""
    k = torch.arange(8, dtype=torch.float64)
    matrix = torch.cos(math.pi / 8 * k[:, None] * (k + 0.5)) / 2
    matrix[0] /= math.sqrt(2)
    return matrix.float()
