"""MNIST and Fashion-MNIST: the IDX files, as published (.gz) or unpacked.

>>> from doorward.data import DATASETS
>>> DATASETS.facts("mnist")["image_shape"]
(1, 28, 28)
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from doorward.data.registry import Download, assemble, broken, dataset, locate
from doorward.data.source import ImageData

__all__ = ["fashion_mnist", "mnist", "read_idx"]

_DIGITS = tuple("0123456789")
_CLOTHES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def _places(*folders: str) -> dict[str, tuple[tuple[str, ...], ...]]:
    return {
        split: tuple(
            tuple(f"{folder}/{file}{end}" for folder in folders for end in (".gz", ""))
            for file in files
        )
        for split, files in _FILES.items()
    }


def _downloads(base: str, folder: str, *checksums: str) -> tuple[Download, ...]:
    files = [*_FILES["train"], *_FILES["test"]]
    return tuple(
        Download(f"{base}/{file}.gz", f"md5:{checksum}", folder)
        for file, checksum in zip(files, checksums, strict=True)
    )


@dataset(
    "mnist",
    classes=10,
    image_shape=(1, 28, 28),
    homepage="http://yann.lecun.com/exdb/mnist/",
    files=_places("MNIST/raw", "MNIST", "mnist"),
    downloads=_downloads(
        "https://ossci-datasets.s3.amazonaws.com/mnist",
        "MNIST/raw",
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
def mnist(root: Path, split: str) -> ImageData:
    """Handwritten digits, 28x28, grey (LeCun et al. 1998)."""
    return _read("mnist", root, split, _DIGITS)


@dataset(
    "fashion-mnist",
    classes=10,
    image_shape=(1, 28, 28),
    homepage="https://github.com/zalandoresearch/fashion-mnist",
    files=_places("FashionMNIST/raw", "FashionMNIST", "fashion-mnist"),
    downloads=_downloads(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        "FashionMNIST/raw",
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
def fashion_mnist(root: Path, split: str) -> ImageData:
    """Pictures of 10 kinds of clothes, 28x28, grey (Xiao et al. 2017, arXiv:1708.07747)."""
    return _read("fashion-mnist", root, split, _CLOTHES)


def _read(name: str, root: Path, split: str, classes: tuple[str, ...]) -> ImageData:
    images_path, labels_path = locate(name, root, split)
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    return assemble(labels_path, images.unsqueeze(1), labels, classes, name)


def read_idx(path: Path, dimensions: int) -> Tensor:
    """Read an IDX file of bytes.

    Args:
        path: the file; gzip is recognised by its content.
        dimensions: how many the array must have.

    Returns:
        uint8, of the shape that the file's header says.

    Raises:
        BadFile: wrong magic number, another number of dimensions, or of bytes than declared.
    """
    try:
        with open(path, "rb") as plain:
            zipped = plain.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as stream:
            header = stream.read(4 + 4 * dimensions)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(header) < 4 + 4 * dimensions:
                raise broken(path, f"it is no IDX file of bytes with {dimensions} dimensions")
            shape = tuple(np.frombuffer(header[4:], ">u4").tolist())
            expected = math.prod(shape)
            # Block by block: neither a lying header nor a gzip bomb can ask for much memory.
            content = bytearray()
            while len(content) <= expected and (block := stream.read(1 << 20)):
                content += block
    except (OSError, EOFError, zlib.error, OverflowError, MemoryError) as error:
        raise broken(path, str(error)) from error
    if len(content) != expected or not content:
        raise broken(
            path, f"its header declares an array of {shape}; what follows is not that long"
        )
    return torch.frombuffer(content, dtype=torch.uint8).view(shape)
