"""Substitute pools by name, in the size that the victim takes; nothing is ever downloaded.

>>> open_pool("procedural", (3, 32, 32), count=50, seed=1).image_shape
(3, 32, 32)
>>> open_pool("digits", (3, 16, 16)).image_shape     # another data set, resized and coloured
(3, 16, 16)

A folder ``CLASS/IMAGE`` or an ``.npy`` file of images is a pool as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from doorward.data import DATASETS, ImageData, load
from doorward.errors import InvalidInput
from doorward.extraction.procedural import procedural_pool

__all__ = ["PROCEDURAL", "open_pool"]

PROCEDURAL = "procedural"


def open_pool(
    name: str | os.PathLike[str],
    image_shape: tuple[int, int, int],
    *,
    count: int | None = None,
    seed: int = 0,
    root: str | os.PathLike[str] | None = None,
) -> ImageData:
    """A pool of unlabelled images.

    Args:
        name: ``procedural``; or what `doorward.data.load` takes: the name of a data set (its
            training images), a folder (all its images), an ``.npy`` file.
        image_shape: ``(C, H, W)`` that the victim takes; images are resampled and turned grey or
            coloured to fit.
        count: how many images: of a procedural pool (10,000 if None), or at most, of another one,
            drawn by the seed.
        seed: of the procedural images, or of the draw.
        root: where data sets lie; None for the default.

    Raises:
        InvalidInput: the victim's images are not square (only procedural pools can follow).
        UnknownName, MissingData, BadFile: as `doorward.data.load`; the message of a data set that
            is not there says how to fetch it.
    """
    channels, height, width = image_shape
    if str(name) == PROCEDURAL:
        return procedural_pool(10_000 if count is None else count, image_shape, seed)
    if height != width:
        raise InvalidInput(
            f"the victim takes images {height}x{width}",
            why=f"{name} would be distorted",
            remedy="take the pool procedural, or resize the images yourself",
        )
    split = "train" if str(name) in DATASETS or not Path(name).is_dir() else "all"
    pool = load(name, split=split, root=root, size=height, channels=channels)
    if count is not None and count < len(pool):
        return pool.sample(count, seed=seed, balanced=False)
    return pool
