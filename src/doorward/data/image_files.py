"""Image files to uint8 tensors: one decoder for everything that is read or streamed.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "red.png"
>>> Image.new("RGB", (4, 2), (255, 0, 0)).save(path)
>>> read_image(path, (2, 2), 3).flatten(1).tolist()
[[255, 255, 255, 255], [0, 0, 0, 0], [0, 0, 0, 0]]
"""

from __future__ import annotations

import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from doorward.data.registry import Listing, broken
from doorward.data.source import ImageData
from doorward.errors import InvalidInput

__all__ = ["EXTENSIONS", "image_shape", "read_image", "read_listing"]

EXTENSIONS = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})
"""File names that count as images, in lower case."""

_UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,  # what Pillow raises for a broken PNG
    EOFError,
    IndexError,
    TypeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
_DEEP_MODES = ("I", "F")


def read_image(path: Path, size: tuple[int, int] | None, channels: int) -> Tensor:
    """Decode one image file.

    Args:
        path: any 8-bit format that Pillow reads.
        size: height and width to resample to (bilinear, anti-aliased); None keeps the file's own.
        channels: 1 (luma) or 3 (RGB); an alpha channel is dropped.

    Returns:
        uint8 ``(channels, H, W)``.

    Raises:
        BadFile: the file is truncated, corrupt, no image, or has more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            if image.mode.startswith(_DEEP_MODES):
                raise broken(path, f"its pixels are not 8-bit (Pillow mode {image.mode})")
            pixels = image.convert("L" if channels == 1 else "RGB")
        if size is not None and pixels.size != (size[1], size[0]):
            pixels = pixels.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except _UNREADABLE as error:
        raise broken(path, f"{error or type(error).__name__}") from error
    array = np.array(pixels)
    return torch.from_numpy(array if channels == 3 else array[:, :, None]).permute(2, 0, 1)


def image_shape(
    listing: Listing, size: int | None, channels: int | None
) -> tuple[tuple[int, int], int]:
    """Height and width, and channels, that a listing's images have when read.

    What the caller leaves open comes from the listing and then from the first file's header.

    Raises:
        BadFile: the first file is no image.
        InvalidInput: `size` or `channels` is not possible.
    """
    size = size if size is not None else listing.size
    if (size is not None and size < 1) or channels not in (None, 1, 3):
        raise InvalidInput(
            f"size {size} or channels {channels} is not possible",
            why="the size is a side in pixels, and images have 1 or 3 channels",
        )
    try:
        with Image.open(listing.paths[0]) as image:
            width, height = image.size
            own = 1 if image.mode in ("L", "1", "LA") else 3
    except _UNREADABLE as error:
        raise broken(listing.paths[0], str(error)) from error
    return (height, width) if size is None else (size, size), channels or own


def read_listing(
    listing: Listing, *, size: int | None = None, channels: int | None = None
) -> ImageData:
    """Read all files of a listing into memory, several at a time.

    Args:
        listing: which files.
        size: side to resample to; None for the listing's own choice.
        channels: 1 or 3; None for what the first file has.

    Raises:
        BadFile: a file cannot be decoded.
        InvalidInput: no size is asked for and the files differ in size.
    """
    own, depth = image_shape(listing, size, channels)
    wanted = own if size is not None or listing.size is not None else None
    images = torch.empty(len(listing.paths), depth, *own, dtype=torch.uint8)

    def read(position: int) -> None:
        images[position] = require_shape(
            listing.paths[position], read_image(listing.paths[position], wanted, depth), own
        )

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(read, range(len(listing.paths))):
            pass
    return ImageData(images, torch.tensor(listing.labels), listing.classes, listing.name)


def require_shape(path: Path, image: Tensor, size: tuple[int, int]) -> Tensor:
    """Return `image`, or raise `InvalidInput` when it is not of `size` like the others."""
    height, width = image.shape[1:]
    if (height, width) != size:
        raise InvalidInput(
            f"{path} is {height}x{width} where {size[0]}x{size[1]} is expected",
            why="images of one set must have one size",
            remedy="name a size to resample them all, e.g. size=32 (--size 32)",
        )
    return image
