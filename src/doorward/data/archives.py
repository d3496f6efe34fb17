"""Unpacking archives that may be hostile: everything inside the target folder, or nothing at all.

>>> import pathlib, tempfile
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> with zipfile.ZipFile(folder / "a.zip", "w") as archive:
...     archive.writestr("../escaped.txt", "gotcha")
>>> unpack(folder / "a.zip", folder / "out")
Traceback (most recent call last):
doorward.errors.UnsafeFile: ...a.zip is not unpacked: its entry '../escaped.txt' would be written...
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from doorward.errors import BadFile, StorageFailed, UnsafeFile

__all__ = ["unpack"]


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .zip or .tar(.gz|.bz2|.xz) into `folder`, beside what is there already.

    Files are unpacked into a temporary folder first and moved when all are there.

    Args:
        archive: the file; its kind is recognised by its content.
        folder: made if missing; files of the same name are replaced.

    Raises:
        UnsafeFile: an entry is a link or a device, or lies outside `folder`; nothing is written.
        BadFile: the archive is damaged.
        StorageFailed: the disk is full or not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unpack-", dir=folder) as temporary:
            if zipfile.is_zipfile(archive):
                _unzip(archive, Path(temporary))
            else:
                _untar(archive, Path(temporary))
            _merge(Path(temporary), folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, RuntimeError) as error:
        raise BadFile(
            f"{archive} is damaged or no archive",
            why=str(error),
            remedy="delete and fetch it again",
        ) from error
    except OSError as error:
        raise StorageFailed(
            f"{archive} could not be unpacked into {folder}",
            why=f"{error.strerror or error}",
            remedy="free space or choose another folder, and run the same command again",
        ) from error


def _unzip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        entries = content.infolist()
        _refuse_outside(archive, (entry.filename for entry in entries))
        for entry in entries:
            if stat.S_ISLNK(entry.external_attr >> 16):
                raise _unsafe(archive, entry.filename, "is a link")
        content.extractall(folder)  # noqa: S202 - every name was checked above


def _untar(archive: Path, folder: Path) -> None:
    with tarfile.open(archive) as content:
        entries = content.getmembers()
        _refuse_outside(archive, (entry.name for entry in entries))
        for entry in entries:
            if not (entry.isfile() or entry.isdir()):
                raise _unsafe(archive, entry.name, "is a link or a device")
        content.extractall(folder, filter="data")


def _refuse_outside(archive: Path, names: Iterable[str]) -> None:
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        drive = name[1:2] == ":"
        if path.is_absolute() or drive or ".." in path.parts:
            raise _unsafe(archive, name, "would be written outside the folder")


def _unsafe(archive: Path, entry: str, why: str) -> UnsafeFile:
    return UnsafeFile(
        f"{archive} is not unpacked",
        why=f"its entry {entry!r} {why}",
        remedy="do not trust this file; fetch the data set from its official source",
    )


def _merge(source: Path, target: Path) -> None:
    """Move everything from `source` into `target`: whole folders where nothing is in the way."""
    for path in list(source.iterdir()):
        place = target / path.name
        if path.is_dir() and place.is_dir():
            _merge(path, place)
        else:
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(path, place)
