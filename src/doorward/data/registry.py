"""The data sets that have names, where they lie on disk, and what each one is.

>>> "digits" in DATASETS, DATASETS.facts("digits")["classes"]
(True, 10)
>>> print(DATASETS.summary("digits"))
Handwritten digits, 8x8 upscaled to 32x32: bundled with scikit-learn, needs no download.

An entry is a *reader*: ``reader(root, split) -> ImageData | Listing``. Its facts fill the tables of
the documentation and drive `doorward.data.fetch`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from doorward.data.source import ImageData
from doorward.errors import MissingData, UnknownName
from doorward.registry import Registry

__all__ = ["DATASETS", "Download", "Listing", "Reader", "check_split", "data_root", "missing"]


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
    """

    url: str
    checksum: str
    folder: str = "."
    unpack: bool = False

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rpartition("/")[2]


Reader = Callable[[Path, str], "ImageData | Listing"]

DATASETS: Registry[Reader] = Registry("data set")
"""Readers by name. Facts: ``classes``, ``image_shape``, ``splits``, ``homepage``, ``layout``
(where the files lie under the data root) and ``downloads`` (a tuple of `Download`)."""


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """The folder that holds data sets.

    Args:
        root: used as it is when given; otherwise ``$DOORWARD_DATA``, else ``$DOORWARD_HOME/data``,
            else ``~/.cache/doorward/data``.

    >>> data_root("/srv/data")
    PosixPath('/srv/data')
    """
    if root is not None:
        return Path(root).expanduser()
    if os.environ.get("DOORWARD_DATA"):
        return Path(os.environ["DOORWARD_DATA"]).expanduser()
    home = os.environ.get("DOORWARD_HOME") or Path.home() / ".cache" / "doorward"
    return Path(home).expanduser() / "data"


def check_split(name: str, split: str) -> None:
    """Raise `UnknownName`, naming the splits that exist, when a data set has no such split."""
    splits = DATASETS.facts(name)["splits"]
    if split not in splits:
        raise UnknownName.of(f"split of {name}", split, splits)


def missing(name: str, path: Path) -> MissingData:
    """The error for a data set whose file `path` is not there."""
    return MissingData(
        f"the data set {name} is not complete: there is no {path}",
        remedy=f"run `doorward data fetch {name}`, or set DOORWARD_DATA to the folder that holds "
        f"{DATASETS.facts(name)['layout']}",
    )
