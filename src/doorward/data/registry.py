"""The data sets that have names: where they lie on disk and what each one is.

>>> from doorward.data import DATASETS
>>> "cifar10" in DATASETS, DATASETS.facts("cifar10")["classes"]
(True, 10)
>>> print(DATASETS.summary("digits"))
Handwritten digits, 8x8 upscaled to 32x32: bundled with scikit-learn, needs no download.

An entry is a *reader*: ``reader(root, split) -> ImageData | Listing``. Its facts fill the tables of
the documentation, say which files it needs, and drive `doorward.data.fetch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from doorward.data.source import ImageData
from doorward.errors import BadFile, InvalidInput, MissingData, UnknownName
from doorward.files import home_folder
from doorward.registry import Registry

__all__ = [
    "DATASETS",
    "Download",
    "Listing",
    "Reader",
    "assemble",
    "available",
    "broken",
    "data_root",
    "dataset",
    "locate",
]


@dataclass(frozen=True)
class Listing:
    """Image files with their labels, not read yet.

    Args:
        paths: the image files.
        labels: one class number per file.
        classes: class names.
        name: what the set is called.
        size: side to resample to when the caller names none; None keeps the files' own size.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]
    classes: tuple[str, ...]
    name: str
    size: int | None = None


@dataclass(frozen=True)
class Download:
    """One file of a data set's official distribution.

    Args:
        url: where it is published.
        checksum: ``md5:...`` or ``sha256:...``, as published.
        folder: where it belongs under the data root; archives are unpacked there.
        unpack: whether it is an archive (.tar.gz or .zip).
        split: the only split that needs it; empty when several do.
    """

    url: str
    checksum: str
    folder: str = "."
    unpack: bool = False
    split: str = ""

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


Reader = Callable[[Path, str], "ImageData | Listing"]

DATASETS: Registry[Reader] = Registry("data set")
"""Readers by name; their facts are the arguments of `dataset`, and ``splits`` and ``layout``."""


def dataset(
    name: str,
    *,
    classes: int,
    image_shape: tuple[int, int, int],
    homepage: str,
    files: Mapping[str, tuple[tuple[str, ...], ...]],
    downloads: tuple[Download, ...],
) -> Callable[[Reader], Reader]:
    """Decorator that files a reader in `DATASETS`.

    Args:
        name: of the data set.
        classes: how many it has.
        image_shape: ``(C, H, W)`` that images have when no size is asked for.
        homepage: where its authors describe it.
        files: for each split the files or folders that it needs under the data root, each as a
            tuple of places where it may be; the first is where `fetch` puts it.
        downloads: its official distribution.

    Two more facts follow from these: ``splits``, and ``layout``, the folder under the data root.
    """
    first = next((places[0] for places in files["train"]), "")
    return DATASETS.register(
        name,
        classes=classes,
        image_shape=image_shape,
        homepage=homepage,
        files=dict(files),
        downloads=downloads,
        splits=tuple(files),
        layout=f"{first.rpartition('/')[0]}/" if first else "(bundled)",
    )


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets.

    Args:
        root: used as it is when given; otherwise ``$DOORWARD_DATA``, else ``$DOORWARD_HOME/data``,
            else ``~/.cache/doorward/data``.

    >>> str(data_root("/srv/data"))
    '/srv/data'
    """
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("DOORWARD_DATA"):
        return Path(os.environ["DOORWARD_DATA"]).expanduser()
    return home_folder() / "data"


def locate(name: str, root: Path, split: str) -> list[Path]:
    """The files (or folders) of one split of a named data set, in the order of its facts.

    Raises:
        UnknownName: it has no such split.
        MissingData: one of them is not there; the message says where it was expected.
    """
    files = DATASETS.facts(name)["files"]
    if split not in files:
        raise UnknownName.of(f"split of {name}", split, files)
    found = []
    for places in files[split]:
        paths = [root / place for place in places]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            raise MissingData(
                f"the data set {name} is not there: there is no {paths[0]}",
                remedy=f"run `doorward data fetch {name}`, or set DOORWARD_DATA to a folder that "
                f"holds {places[0]}",
            )
        found.append(path)
    return found


def available(name: str, root: str | os.PathLike[str] | None = None) -> bool:
    """Whether the training and test images of a named data set are on this machine.

    >>> available("digits"), available("cifar10", "/nowhere")
    (True, False)
    """
    try:
        for split in ("train", "test"):
            locate(name, data_root(root), split)
    except MissingData:
        return False
    return True


def broken(path: Path, why: str) -> BadFile:
    """The error for a file of a data set that does not hold what it should."""
    return BadFile(
        f"{path} is damaged or of another kind",
        why=why,
        remedy="delete it and restore it from its source (`doorward data fetch NAME` for the "
        "named data sets)",
    )


def assemble(
    path: Path, images: Tensor, labels: Tensor, classes: tuple[str, ...], name: str
) -> ImageData:
    """An `ImageData` from the content of `path`; what does not fit is that file's fault.

    Raises:
        BadFile: labels out of range, or another number of them than of images.
    """
    try:
        return ImageData(images.contiguous(), labels.long(), classes, name)
    except InvalidInput as error:
        raise broken(path, str(error)) from error
