"""SVHN: street view house numbers, cropped digits, from the official MATLAB files.

>>> from doorward.data import DATASETS
>>> sorted(DATASETS.facts("svhn")["files"])
['extra', 'test', 'train']
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from doorward.data.matlab import read_matrices
from doorward.data.registry import Download, assemble, broken, dataset, locate
from doorward.data.source import ImageData

__all__ = ["svhn"]

_STANFORD = "http://ufldl.stanford.edu/housenumbers"


@dataset(
    "svhn",
    classes=10,
    image_shape=(3, 32, 32),
    homepage=_STANFORD,
    files={
        split: (tuple(f"{folder}{split}_32x32.mat" for folder in ("svhn/", "SVHN/", "")),)
        for split in ("train", "test", "extra")
    },
    downloads=(
        Download(f"{_STANFORD}/train_32x32.mat", "md5:e26dedcc434d2e4c54c9b2d4a06d8373", "svhn"),
        Download(f"{_STANFORD}/test_32x32.mat", "md5:eb5a983be6a315427106f1b164d9cef3", "svhn"),
        Download(
            f"{_STANFORD}/extra_32x32.mat",
            "md5:a93ce644f1a588dc4d68dda5feec44a7",
            "svhn",
            split="extra",
        ),
    ),
)
def svhn(root: Path, split: str) -> ImageData:
    """House numbers photographed from the street, one digit each, 32x32 (Netzer et al. 2011)."""
    (path,) = locate("svhn", root, split)
    content = read_matrices(path)
    if not {"X", "y"} <= set(content):
        raise broken(path, "it has no matrices X and y")
    images, labels = content["X"], content["y"].reshape(-1)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[:3] != (32, 32, 3):
        raise broken(path, "its matrix X is not uint8 of shape (32, 32, 3, N)")
    if not np.isin(labels, np.arange(1, 11)).all():
        raise broken(path, "its labels y are not all in 1..10")
    # The digit 0 is labelled 10.
    numbers = torch.from_numpy(labels.astype(np.int64) % 10)
    pixels = torch.from_numpy(images.transpose(3, 2, 0, 1).copy())
    return assemble(path, pixels, numbers, tuple("0123456789"), "svhn")
