"""`load`: a data set by name, any folder of class folders, or an array, as an image source.

>>> load("digits").image_shape
(1, 32, 32)
>>> load("digits", split="test", size=16, channels=3).image_shape
(3, 16, 16)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, overload

import torch

from doorward.data.folders import class_folders, list_folder, load_array
from doorward.data.image_files import read_listing
from doorward.data.registry import DATASETS, Listing, data_root, locate
from doorward.data.selection import split_indices
from doorward.data.source import ImageData
from doorward.data.streaming import StreamedImages
from doorward.errors import InvalidInput, MissingData, UnknownName

__all__ = ["load"]

_SPLIT_FOLDERS = {"train": ("train",), "test": ("test", "val", "valid", "validation")}


@overload
def load(
    name: str | os.PathLike[str],
    *,
    split: str = ...,
    root: str | os.PathLike[str] | None = ...,
    size: int | None = ...,
    channels: int | None = ...,
    stream: Literal[False] = ...,
) -> ImageData: ...
@overload
def load(
    name: str | os.PathLike[str],
    *,
    split: str = ...,
    root: str | os.PathLike[str] | None = ...,
    size: int | None = ...,
    channels: int | None = ...,
    stream: bool,
) -> ImageData | StreamedImages: ...
def load(
    name: str | os.PathLike[str],
    *,
    split: str = "train",
    root: str | os.PathLike[str] | None = None,
    size: int | None = None,
    channels: int | None = None,
    stream: bool = False,
) -> ImageData | StreamedImages:
    """Load one split of a data set.

    Args:
        name: a name from `DATASETS`; or a folder ``CLASS/IMAGE`` or ``train|test/CLASS/IMAGE``
            (a path, or its name under the data root); or an ``.npy`` file of unlabelled images.
        split: "train" or "test"; some sets have more. A folder without ``train`` and ``test``
            inside is cut 80/20, class-balanced, the same way every time; "all" takes everything.
        root: the folder that holds data sets; None for `data_root()`.
        size: side to resample images to; None keeps theirs.
        channels: 1 or 3; None keeps theirs.
        stream: decode image files during training instead of now, for sets larger than memory.
            Sets that are stored as arrays are read whole.

    Raises:
        UnknownName: nothing is called so; the message lists the names.
        MissingData: the files are not there; the message says how to get them.
        BadFile: a file is truncated or corrupt.
        InvalidInput: images differ in size and none was asked for.
    """
    folder = data_root(root)
    if str(name) in DATASETS:
        locate(str(name), folder, split)
        content = DATASETS[str(name)](folder, split)
    else:
        content = _own(_path(name, folder), split)
    if isinstance(content, ImageData):
        resized = content if size is None else content.resized(size)
        return resized if channels is None else resized.with_channels(channels)
    if stream:
        return StreamedImages(content, size=size, channels=channels)
    return read_listing(content, size=size, channels=channels)


def _path(name: str | os.PathLike[str], root: Path) -> Path:
    for path in (Path(name).expanduser(), root / name):
        if path.exists():
            return path
    if os.sep in str(name) or str(name).endswith(".npy"):
        raise MissingData(f"there is no file or folder {name}", remedy="check the path")
    raise UnknownName.of("data set", str(name), DATASETS)


def _own(path: Path, split: str) -> ImageData | Listing:
    if path.is_file() or (path / "images.npy").is_file():
        if split not in ("train", "all"):
            raise InvalidInput(
                f"{path} has no {split} split",
                why="it is one pool of unlabelled images",
                remedy="load it and call split(0.8, 0.2, seed=0)",
            )
        return load_array(path)
    if split not in ("train", "test", "all"):
        raise UnknownName.of(f"split of {path}", split, ("train", "test", "all"))
    parts = _split_folders(path)
    if not parts:
        whole = list_folder(path)
        if split == "all":
            return whole
        chosen = split_indices(torch.tensor(whole.labels), (0.8, 0.2), seed=0)[split == "test"]
        return _pick(whole, chosen.tolist())
    # One numbering for all splits, also where one of them lacks a class.
    classes = tuple(sorted({name for part in parts.values() for name in class_folders(part)}))
    wanted = list(parts) if split == "all" else [split]
    if split != "all" and split not in parts:
        raise MissingData(f"{path} has no folder {split}", why=f"it has {', '.join(parts)}")
    listings = [list_folder(parts[part], classes) for part in wanted]
    return Listing(
        tuple(file for listing in listings for file in listing.paths),
        tuple(label for listing in listings for label in listing.labels),
        classes,
        path.name,
    )


def _split_folders(path: Path) -> dict[str, Path]:
    """Folders in `path` that hold a split: called so, and with class folders of their own."""
    found = {}
    for split, names in _SPLIT_FOLDERS.items():
        for name in reversed(names):
            if (path / name).is_dir() and class_folders(path / name):
                found[split] = path / name
    return found


def _pick(listing: Listing, positions: list[int]) -> Listing:
    return Listing(
        tuple(listing.paths[position] for position in positions),
        tuple(listing.labels[position] for position in positions),
        listing.classes,
        listing.name,
        listing.size,
    )
