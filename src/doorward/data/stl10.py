"""STL-10: 96x96 photographs from the official binary files, with its unlabelled images.

>>> from doorward.data import DATASETS
>>> sorted(DATASETS.facts("stl10")["files"])
['test', 'train', 'unlabelled']
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from doorward.data.registry import Download, assemble, broken, dataset, locate
from doorward.data.source import ImageData

__all__ = ["stl10"]

_SIDE = 96
_CLASSES = (
    "airplane",
    "bird",
    "car",
    "cat",
    "deer",
    "dog",
    "horse",
    "monkey",
    "ship",
    "truck",
)


@dataset(
    "stl10",
    classes=10,
    image_shape=(3, 96, 96),
    homepage="https://cs.stanford.edu/~acoates/stl10/",
    files={
        "train": (("stl10_binary/train_X.bin",), ("stl10_binary/train_y.bin",)),
        "test": (("stl10_binary/test_X.bin",), ("stl10_binary/test_y.bin",)),
        "unlabelled": (("stl10_binary/unlabeled_X.bin",),),
    },
    downloads=(
        Download(
            "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "md5:91f7769df0f17e558f3565bffb0c7dfb",
            unpack=True,
        ),
    ),
)
def stl10(root: Path, split: str) -> ImageData:
    """Photographs of 10 kinds of animals and vehicles, 96x96 (Coates et al. 2011)."""
    paths = locate("stl10", root, split)
    images = _images(paths[0])
    if split == "unlabelled":
        return assemble(paths[0], images, torch.zeros(len(images)), ("unlabelled",), "stl10")
    labels = torch.from_numpy(np.fromfile(paths[1], np.uint8).astype(np.int64)) - 1
    return assemble(paths[1], images, labels, _CLASSES, "stl10")


def _images(path: Path) -> Tensor:
    content = np.fromfile(path, np.uint8)
    if content.size == 0 or content.size % (3 * _SIDE * _SIDE):
        raise broken(path, f"its {content.size} bytes are not whole images of 3x96x96")
    # Pixels are stored column by column.
    return torch.from_numpy(content).view(-1, 3, _SIDE, _SIDE).transpose(2, 3)
