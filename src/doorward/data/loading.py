"""`load`: a data set by name, or any folder of class folders, as an image source.

>>> load("digits").image_shape
(1, 32, 32)
>>> load("digits", split="test", size=16, channels=3).image_shape
(3, 16, 16)
"""

from __future__ import annotations

import os

from doorward.data.registry import DATASETS, check_split, data_root
from doorward.data.source import ImageData
from doorward.errors import InvalidInput

__all__ = ["load"]


def load(
    name: str,
    *,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
) -> ImageData:
    """Load a data set."""
    reader = DATASETS[name]
    check_split(name, split)
    data = reader(data_root(root), split)
    if not isinstance(data, ImageData):
        raise InvalidInput(f"{name} is not held in memory")
    if size is not None:
        data = data.resized(size)
    return data if channels is None else data.with_channels(channels)
