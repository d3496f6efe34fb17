"""CIFAR-10 and CIFAR-100 in their official python layout, without trusting their pickles.

>>> from doorward.data import load
>>> load("cifar10", root="/nowhere")
Traceback (most recent call last):
doorward.errors.MissingData: the data set cifar10 is not there: there is no /nowhere/cifar-10-...

The official files are pickles, and a pickle can run any code when it is read. `read_plain_pickle`
accepts builtin containers and uint8 arrays and calls nothing else.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch

from doorward.data.registry import Download, assemble, broken, dataset, locate
from doorward.data.source import ImageData
from doorward.errors import UnsafeFile

__all__ = ["cifar10", "cifar100", "read_plain_pickle"]

_BYTES_PER_IMAGE = 3 * 32 * 32
_TORONTO = "https://www.cs.toronto.edu/~kriz"


@dataset(
    "cifar10",
    classes=10,
    image_shape=(3, 32, 32),
    homepage=f"{_TORONTO}/cifar.html",
    files={
        "train": tuple(
            (f"cifar-10-batches-py/{file}",)
            for file in ("batches.meta", *(f"data_batch_{number}" for number in range(1, 6)))
        ),
        "test": (("cifar-10-batches-py/batches.meta",), ("cifar-10-batches-py/test_batch",)),
    },
    downloads=(
        Download(
            f"{_TORONTO}/cifar-10-python.tar.gz",
            "md5:c58f30108f718f92721af3b95e74349a",
            unpack=True,
        ),
    ),
)
def cifar10(root: Path, split: str) -> ImageData:
    """Photographs of 10 kinds of animals and vehicles, 32x32 (Krizhevsky 2009)."""
    meta, *batches = locate("cifar10", root, split)
    return _read("cifar10", meta, "label_names", batches, "labels")


@dataset(
    "cifar100",
    classes=100,
    image_shape=(3, 32, 32),
    homepage=f"{_TORONTO}/cifar.html",
    files={
        split: (("cifar-100-python/meta",), (f"cifar-100-python/{split}",))
        for split in ("train", "test")
    },
    downloads=(
        Download(
            f"{_TORONTO}/cifar-100-python.tar.gz",
            "md5:eb9058c3a382ffc7106e4002c42a8d85",
            unpack=True,
        ),
    ),
)
def cifar100(root: Path, split: str) -> ImageData:
    """Photographs of 100 kinds of things, 32x32, with their fine labels (Krizhevsky 2009)."""
    meta, *batches = locate("cifar100", root, split)
    return _read("cifar100", meta, "fine_label_names", batches, "fine_labels")


def _read(name: str, meta: Path, names_key: str, batches: list[Path], key: str) -> ImageData:
    classes = _entry(meta, names_key)
    if not isinstance(classes, list) or not all(isinstance(item, str) for item in classes):
        raise broken(meta, f"its entry {names_key!r} is not a list of names")
    images, labels = [], []
    for path in batches:
        data, numbers = _entry(path, "data"), _entry(path, key)
        if (
            not isinstance(data, np.ndarray)
            or data.dtype != np.uint8
            or data.ndim != 2
            or data.shape[1] != _BYTES_PER_IMAGE
        ):
            raise broken(path, f"its entry 'data' is not uint8 of shape (N, {_BYTES_PER_IMAGE})")
        if (
            not isinstance(numbers, list)
            or len(numbers) != len(data)
            or not all(isinstance(n, int) and 0 <= n < len(classes) for n in numbers)
        ):
            raise broken(path, f"its entry {key!r} is not one class number per image")
        images.append(torch.from_numpy(data))
        labels += numbers
    pixels = torch.cat(images).view(-1, 3, 32, 32)
    return assemble(batches[0], pixels, torch.tensor(labels), tuple(classes), name)


def _entry(path: Path, key: str) -> Any:
    content = read_plain_pickle(path)
    if not isinstance(content, dict) or key not in content:
        raise broken(path, f"it has no entry {key!r}")
    return content[key]


def read_plain_pickle(path: Path) -> Any:
    """Read a pickle of builtin containers, numbers, strings and uint8 arrays; run nothing.

    Args:
        path: a pickle as Python 2 or 3 wrote it; its byte strings come back as latin-1 text.

    Returns:
        Its content.

    Raises:
        UnsafeFile: it asks for any other class or function; nothing of it has been called.
        BadFile: it is truncated or no pickle.
    """
    with open(path, "rb") as stream:
        reader = _PlainUnpickler(stream, encoding="latin1")
        reader.path = path
        try:
            return reader.load()
        except (
            pickle.UnpicklingError,
            ArithmeticError,
            AttributeError,
            EOFError,
            LookupError,
            MemoryError,
            RecursionError,
            TypeError,
            ValueError,
        ) as error:
            raise broken(
                path, f"it is no whole pickle ({error or type(error).__name__})"
            ) from error


class _PlainUnpickler(pickle.Unpickler):
    path: Path

    def find_class(self, module: str, name: str) -> Any:
        """The three things that a pickled array names, each replaced by a harmless twin."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return _empty_array
        if module == "numpy" and name == "ndarray":
            return np.ndarray
        if module == "numpy" and name == "dtype":
            return _byte_type
        raise UnsafeFile(
            f"{self.path} is not plain data",
            why=f"its pickle asks for {module}.{name}, which could run code; nothing was run",
            remedy="delete it and fetch the official files (`doorward data fetch NAME`)",
        )


def _empty_array(kind: Any, shape: Any, code: Any) -> Any:
    """As NumPy's `_reconstruct` starts: an empty array whose state follows in the pickle."""
    if kind is not np.ndarray:
        raise pickle.UnpicklingError("it makes an array of an unknown class")
    return np.ndarray((0,), np.uint8)


def _byte_type(code: Any, *options: Any) -> Any:
    if code not in ("u1", "|u1", "uint8"):
        raise pickle.UnpicklingError(f"it holds an array of {code!r}, where only uint8 belongs")
    return np.dtype(np.uint8)
