"""Pictures of data: a grid of images as one PNG.

>>> from doorward.data import load
>>> picture = grid(load("digits").sample(20, seed=0), columns=10, scale=2)
>>> picture.size
(658, 130)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from doorward.data.source import ImageData
from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

__all__ = ["grid"]

_CAPTION = 12


def grid(
    images: Tensor | ImageData,
    *,
    columns: int | None = None,
    labels: Sequence[str] | None = None,
    scale: int = 1,
    gap: int = 2,
) -> Image.Image:
    """Draw images side by side, row by row.

    Args:
        images: uint8, or float in ``[0, 1]`` (what lies outside is clipped), ``(N, C, H, W)``
            with C in {1, 3}; or a data set.
        columns: images per row; None for about as many as rows.
        labels: a caption for each image; None for none.
        scale: every pixel becomes a square of this many.
        gap: white pixels between two images.

    Returns:
        An RGB picture; ``.save("grid.png")`` writes it.

    Raises:
        InvalidInput: no images, wrong shape, or another number of labels.
    """
    from PIL import Image, ImageDraw

    pixels = images.images if isinstance(images, ImageData) else images
    if pixels.ndim != 4 or len(pixels) == 0 or pixels.shape[1] not in (1, 3):
        raise InvalidInput(
            f"images of shape {tuple(pixels.shape)} cannot be drawn",
            why="it must be (N, C, H, W) with 1 or 3 channels and N >= 1",
        )
    if scale < 1 or gap < 0 or (columns is not None and columns < 1):
        raise InvalidInput(f"scale {scale}, gap {gap} or columns {columns} is not possible")
    if labels is not None and len(labels) != len(pixels):
        raise InvalidInput(f"{len(labels)} captions are given for {len(pixels)} images")
    tiles = _bytes(pixels)
    across = min(len(tiles), columns or math.ceil(math.sqrt(len(tiles))))
    width, height = tiles.shape[2] * scale, tiles.shape[1] * scale
    step_x, step_y = width + gap, height + gap + (_CAPTION if labels else 0)
    down = math.ceil(len(tiles) / across)
    picture = Image.new("RGB", (across * step_x - gap, down * step_y - gap), "white")
    pen = ImageDraw.Draw(picture)
    for position, tile in enumerate(tiles.numpy()):
        x, y = position % across * step_x, position // across * step_y
        drawn = Image.fromarray(tile).resize((width, height), Image.Resampling.NEAREST)
        picture.paste(drawn, (x, y))
        if labels:
            pen.text((x, y + height), _fitting(labels[position], width, pen), fill="black")
    return picture


def _bytes(pixels: Tensor) -> Tensor:
    """uint8 ``(N, H, W, 3)`` on the CPU."""
    if pixels.dtype != torch.uint8:
        pixels = (pixels.detach().float().nan_to_num() * 255).round().clamp(0, 255).to(torch.uint8)
    return pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).cpu().contiguous()


def _fitting(text: str, width: int, pen: ImageDraw.ImageDraw) -> str:
    """As much of `text` as is at most `width` pixels wide."""
    while text and pen.textlength(text) > width:
        text = text[:-1]
    return text
