"""The embedded digits: the data set that is there without a download.

>>> from doorward.data import load
>>> train, test = load("digits"), load("digits", split="test")
>>> len(train), len(test), train.image_shape
(1438, 359, (1, 32, 32))
"""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F

from doorward.data.registry import dataset
from doorward.data.source import ImageData

__all__ = ["digits"]


@dataset(
    "digits",
    classes=10,
    image_shape=(1, 32, 32),
    homepage="https://archive.ics.uci.edu/dataset/80",
    files={"train": (), "test": (), "all": ()},
    downloads=(),
)
def digits(root: Path, split: str) -> ImageData:
    """Handwritten digits, 8x8 upscaled to 32x32: bundled with scikit-learn, needs no download.

    1,797 images of 43 writers (Alpaydin & Kaynak 1998). Train and test are a fixed,
    class-balanced 80/20 split of them; they share writers.
    """
    return _digits(split)


@functools.cache
def _digits(split: str) -> ImageData:
    if split == "all":
        from sklearn.datasets import load_digits

        raw = load_digits()
        # Levels 0..16 and bilinear weights are short binary fractions: exact, so the rounding
        # below gives the same bytes on every machine.
        levels = torch.from_numpy(raw.images).float().unsqueeze(1)
        large = F.interpolate(levels, (32, 32), mode="bilinear", align_corners=False)
        images = (large * (255 / 16)).round_().to(torch.uint8)
        labels = torch.from_numpy(raw.target).long()
        return ImageData(images, labels, tuple("0123456789"), name="digits")
    train, test = _digits("all").split(0.8, 0.2, seed=0)
    return train if split == "train" else test
