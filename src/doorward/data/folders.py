"""Your own images: any ``folder/class/image.png``, or an array of unlabelled ones.

>>> import pathlib, tempfile
>>> from PIL import Image
>>> root = pathlib.Path(tempfile.mkdtemp())
>>> for name in ("cat", "dog"):
...     (root / name).mkdir()
...     Image.new("L", (8, 8)).save(root / name / "1.png")
>>> data = load_folder(root)
>>> data.classes, data.image_shape, data.labels.tolist()
(('cat', 'dog'), (1, 8, 8), [0, 1])
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, overload

import numpy as np
import torch

from doorward.data.image_files import EXTENSIONS, read_listing
from doorward.data.registry import Listing, assemble, broken
from doorward.data.source import ImageData
from doorward.data.streaming import StreamedImages
from doorward.errors import MissingData, UnsafeFile

__all__ = ["class_folders", "list_folder", "load_array", "load_folder"]


@overload
def load_folder(
    path: str | os.PathLike[str],
    *,
    size: int | None = ...,
    channels: int | None = ...,
    classes: Sequence[str] | None = ...,
    stream: Literal[False] = ...,
) -> ImageData: ...
@overload
def load_folder(
    path: str | os.PathLike[str],
    *,
    size: int | None = ...,
    channels: int | None = ...,
    classes: Sequence[str] | None = ...,
    stream: Literal[True],
) -> StreamedImages: ...
def load_folder(
    path: str | os.PathLike[str],
    *,
    size: int | None = None,
    channels: int | None = None,
    classes: Sequence[str] | None = None,
    stream: bool = False,
) -> ImageData | StreamedImages:
    """Load every image under ``path/CLASS/``.

    Args:
        path: a folder with one folder per class; images may lie deeper inside those.
        size: side to resample all images to; None: they must have one size already.
        channels: 1 or 3; None for what the first image has.
        classes: class folders in the order of their numbers; None for all, sorted by name.
        stream: decode during training instead of now (for sets larger than memory).

    Raises:
        MissingData: there is no such folder, or it holds no ``class/image`` files.
        BadFile: an image cannot be decoded.
        InvalidInput: no size is asked for and the files differ in size.
    """
    listing = list_folder(Path(path), classes)
    if stream:
        return StreamedImages(listing, size=size, channels=channels)
    return read_listing(listing, size=size, channels=channels)


def class_folders(path: Path) -> list[str]:
    """Names of the folders in `path`, sorted, hidden ones left out."""
    if not path.is_dir():
        raise MissingData(f"there is no folder {path}", remedy="check the path")
    return sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))


def list_folder(path: Path, classes: Sequence[str] | None = None) -> Listing:
    """Find the images under ``path/CLASS/`` without reading them (arguments: `load_folder`)."""
    names = tuple(class_folders(path) if classes is None else classes)
    paths: list[Path] = []
    labels: list[int] = []
    for number, name in enumerate(names):
        found = sorted(p for p in (path / name).rglob("*") if p.suffix.lower() in EXTENSIONS)
        paths += found
        labels += [number] * len(found)
    if not paths:
        raise MissingData(
            f"there are no images in {path}",
            why=f"expected {path}/CLASS/IMAGE with one of {', '.join(sorted(EXTENSIONS))}",
            remedy="put the images of each class into a folder of its own",
        )
    return Listing(tuple(paths), tuple(labels), names, path.name)


def load_array(path: str | os.PathLike[str]) -> ImageData:
    """Load a pool of unlabelled images from a NumPy file.

    Args:
        path: an ``.npy`` file, uint8 ``(N, H, W, C)`` or ``(N, H, W)``; or a folder that holds
            one called ``images.npy``.

    Returns:
        The images with label 0 each, of the single class "unlabelled".

    Raises:
        MissingData: there is no such file.
        UnsafeFile: it holds pickled objects.
        BadFile: it is truncated, or holds something other than images.
    """
    path = Path(path) / "images.npy" if Path(path).is_dir() else Path(path)
    if not path.is_file():
        raise MissingData(f"there is no file {path}", remedy="check the path")
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            raise UnsafeFile(
                f"{path} holds pickled objects",
                why="they can run code when read, so they are refused",
                remedy="save a plain uint8 array with numpy.save(path, array, allow_pickle=False)",
            ) from error
        raise broken(path, str(error)) from error
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim not in (3, 4):
        raise broken(path, "a uint8 array of shape (N, H, W, C) or (N, H, W) is expected")
    images = array[..., None] if array.ndim == 3 else array
    # A copy in any case: the file is mapped read-only.
    tensor = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C"))
    name = path.parent.name if path.stem == "images" else path.stem
    return assemble(path, tensor, torch.zeros(len(tensor)), ("unlabelled",), name)
