"""Random crops, flips, cut-outs and small rotations of a whole batch at once.

>>> images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
>>> recipe = Augment(pad_crop=4, flip=True)
>>> augment(images, recipe, torch.Generator().manual_seed(0)).shape
torch.Size([8, 3, 32, 32])

An image needs six uniform numbers, drawn on the CPU for all images of a batch in one call and
copied to the device in one piece: the same seed gives the same augmentation on every device, and
switching one kind off does not change the others.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.data.source import to_pixels
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record

__all__ = ["Augment", "apply_draws", "augment", "draw"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Augment(Record):
    """Which random changes training images get.

    Args:
        pad_crop: pad with this many black pixels on each side, then crop back at random.
        flip: mirror left-right with probability 1/2.
        cutout: side of a black square, centred anywhere (DeVries & Taylor 2017,
            arXiv:1708.04552), in pixels; 0 for none.
        rotate: largest rotation in degrees, either way, uniform, bilinear, black outside.
    """

    pad_crop: Annotated[int, Field(ge=0, le=512)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0, le=4096)] = 0
    rotate: Annotated[float, Field(ge=0.0, le=180.0)] = 0.0

    @classmethod
    def none(cls) -> Augment:
        """Images as they are."""
        return cls()

    @property
    def active(self) -> bool:
        """Whether anything is changed at all."""
        return bool(self.pad_crop or self.flip or self.cutout or self.rotate)


def augment(images: Tensor, recipe: Augment, generator: torch.Generator) -> Tensor:
    """Change every image of a batch at random, each in its own way.

    Args:
        images: uint8 or float in ``[0, 1]``, ``(B, C, H, W)``, any device.
        recipe: what may happen.
        generator: a CPU generator; six numbers per image are drawn from it.

    Returns:
        float32 ``(B, C, H, W)`` in ``[0, 1]``, on the device of `images`.

    Raises:
        InvalidInput: `images` is not a batch of images.

    >>> rows = torch.arange(4.0).expand(16, 1, 4, 4) / 255
    >>> both = augment(rows, Augment(flip=True), torch.Generator().manual_seed(0))
    >>> sorted({tuple((image[0, 0] * 255).int().tolist()) for image in both})
    [(0, 1, 2, 3), (3, 2, 1, 0)]
    """
    if images.ndim != 4:
        raise InvalidInput(
            f"images have shape {tuple(images.shape)}", why="it must be (B, C, H, W)"
        )
    return apply_draws(images, recipe, draw(len(images), generator))


def draw(count: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers for `count` images, float32 ``(count, 6)`` on the CPU.

    Columns: crop down, crop right, flip, cut-out row, cut-out column, angle.
    """
    return torch.rand(count, 6, generator=generator)


def apply_draws(images: Tensor, recipe: Augment, draws: Tensor) -> Tensor:
    """The deterministic half of `augment`: `draws` ``(B, 6)`` as from `draw`, any device."""
    if not recipe.active:
        return to_pixels(images)
    draws = draws.to(images.device, non_blocking=True)
    given = images
    if recipe.pad_crop or recipe.flip:
        images = _crop_and_flip(images, recipe, draws)
    images = to_pixels(images)
    if recipe.rotate:
        images = _rotate(images, recipe.rotate, draws[:, 5])
    if recipe.cutout:
        images = images.clone() if images is given else images  # never write into the caller's
        images.mul_(_cutout_mask(images, recipe.cutout, draws))
    return images


def _crop_and_flip(images: Tensor, recipe: Augment, draws: Tensor) -> Tensor:
    """One gather of whole pixel rows out of a padded copy; flips point into a mirrored copy."""
    batch, channels, height, width = images.shape
    pad, copies = recipe.pad_crop, 2 if recipe.flip else 1
    tall, wide = height + 2 * pad, width + 2 * pad
    canvas = images.new_zeros(copies, batch, channels, tall, wide)
    canvas[0, :, :, pad : pad + height, pad : pad + width] = images
    if recipe.flip:
        canvas[1, :, :, pad : pad + height, pad : pad + width] = images.flip(3)

    planes = torch.arange(batch * channels, device=images.device).view(batch, channels, 1)
    rows = torch.arange(height, device=images.device) + _whole(draws[:, :1], 2 * pad)
    start = (planes * tall + rows.view(batch, 1, height)) * wide
    start += _whole(draws[:, 1], 2 * pad).view(batch, 1, 1)
    if recipe.flip:
        start += (draws[:, 2] < 0.5).view(batch, 1, 1) * canvas[0].numel()
    # Window i of the unfolded view is the `width` values from position i on: no copy is made.
    windows = canvas.view(-1).unfold(0, width, 1)
    return windows.index_select(0, start.view(-1)).view(images.shape)


def _whole(uniform: Tensor, largest: int) -> Tensor:
    """Uniform floats in [0, 1) to whole numbers 0..largest."""
    return (uniform * (largest + 1)).long().clamp_(max=largest)


def _rotate(images: Tensor, degrees: float, uniform: Tensor) -> Tensor:
    angles = (2 * uniform - 1) * math.radians(degrees)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    # affine_grid works in units of half the side: a turn of non-square images needs their ratio.
    ratio = images.shape[2] / images.shape[3]
    matrix = torch.stack([cos, -sin * ratio, zero, sin / ratio, cos, zero], 1).view(-1, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    turned = F.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return turned.clamp_(0, 1)


def _cutout_mask(images: Tensor, side: int, draws: Tensor) -> Tensor:
    """Float ``(B, 1, H, W)``: 0 inside the square, 1 outside; the square may leave the image."""
    kept = []
    for column, length in ((3, images.shape[2]), (4, images.shape[3])):
        first = _whole(draws[:, column : column + 1], length - 1) - side // 2
        place = torch.arange(length, device=images.device)
        kept.append((place < first) | (place >= first + side))
    return (kept[0][:, None, :, None] | kept[1][:, None, None, :]).to(images.dtype)
