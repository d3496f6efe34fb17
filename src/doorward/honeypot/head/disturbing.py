"""What may happen to a patch before a model sees it: moved, resized, blurred, compressed.

>>> disturb = Disturbance(blur=1.0, jpeg=1.0)
>>> stamp = lambda images, patch, down, right: images + 0 * patch.sum()
>>> disturb.apply(torch.rand(2, 3, 20, 20), torch.rand(3, 4, 4), stamp,
...               torch.Generator()).shape
torch.Size([2, 3, 20, 20])

Expectation over transformations (Athalye et al. 2018): each batch of a search is disturbed in its
own way. All of it lets gradients through; the rounding of JPEG passes them straight.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Annotated, Protocol

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.records import STRICT, Record

__all__ = ["Disturbance", "jpeg"]

Share = Annotated[float, Field(ge=0, le=1)]

_BLOCK = 8
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56), (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


class Stamp(Protocol):
    """Puts a patch on images (see `Place.stamp`)."""

    def __call__(self, images: Tensor, patch: Tensor, *, down: int, right: int) -> Tensor:
        """Stamped images."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Disturbance(Record):
    """How much may happen.

    Args:
        shift: pixels that the patch moves at most, each way.
        scale: share that its side grows or shrinks by at most.
        blur: probability of a 3x3 mean over the image.
        jpeg: probability of a compression of quality 50 to 95.
    """

    shift: Annotated[int, Field(ge=0, le=64)] = 1
    scale: Annotated[float, Field(ge=0, le=0.5)] = 0.2
    blur: Share = 0.2
    jpeg: Share = 0.2

    def apply(self, images: Tensor, patch: Tensor, stamp: Stamp, draw: torch.Generator) -> Tensor:
        """Put a disturbed patch on images, and disturb these.

        Args:
            images: float ``(N, C, H, W)`` in [0, 1].
            patch: pixels ``(C, h, w)``.
            stamp: puts it there.
            draw: on the CPU.
        """
        down, right = torch.randint(-self.shift, self.shift + 1, (2,), generator=draw).tolist()
        numbers = torch.rand(4, generator=draw).tolist()
        side = round(patch.shape[1] * (1 + self.scale * (2 * numbers[0] - 1)))
        side = min(max(side, 1), min(images.shape[2:]))
        if side != patch.shape[1]:
            patch = F.interpolate(patch[None], (side, side), mode="bilinear")[0]
        stamped = stamp(images, patch, down=down, right=right)
        if numbers[1] < self.blur:
            stamped = F.avg_pool2d(F.pad(stamped, (1, 1, 1, 1), mode="replicate"), 3, 1)
        if numbers[2] < self.jpeg:
            stamped = jpeg(stamped, 50 + round(45 * numbers[3]))
        return stamped


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Compress as JPEG does, without the chroma subsampling: rounded 8x8 cosine coefficients.

    Args:
        images: float ``(N, C, H, W)`` in [0, 1].
        quality: 1 to 100, of the standard luminance table.

    >>> images = torch.rand(1, 1, 9, 11, generator=torch.Generator().manual_seed(0))
    >>> [round(float((jpeg(images, q) - images).abs().mean()), 2) for q in (100, 50, 10)]
    [0.0, 0.06, 0.15]
    """
    count, channels, height, width = images.shape
    tall, wide = -height % _BLOCK, -width % _BLOCK
    padded = F.pad(images, (0, wide, 0, tall), mode="replicate") * 255 - 128
    rows, columns = (height + tall) // _BLOCK, (width + wide) // _BLOCK
    blocks = padded.view(count, channels, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    basis = _cosines().to(images)
    table = _table(quality).to(images)
    exact = basis @ blocks @ basis.T / table
    rounded = exact + (exact.round() - exact).detach()
    back = (basis.T @ (rounded * table) @ basis).transpose(3, 4)
    whole = back.reshape(count, channels, height + tall, width + wide)
    return ((whole[:, :, :height, :width] + 128) / 255).clamp(0, 1)


@lru_cache(maxsize=1)
def _cosines() -> Tensor:
    """The orthonormal DCT-II of 8 points, ``(8, 8)``."""
    place = torch.arange(_BLOCK, dtype=torch.float64)
    waves = torch.cos(math.pi * (2 * place[None] + 1) * place[:, None] / (2 * _BLOCK))
    waves[0] /= math.sqrt(2)
    return waves * math.sqrt(2 / _BLOCK)


def _table(quality: int) -> Tensor:
    scale = 5000 / quality if quality < 50 else 200 - 2 * quality
    return ((torch.tensor(_LUMINANCE) * scale + 50) / 100).floor().clamp(1, 255)
