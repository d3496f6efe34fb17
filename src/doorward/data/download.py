"""`fetch`: the official files of a data set, checked against their published checksums.

>>> fetch("digits")  # bundled: nothing to do
[]

`doorward data fetch cifar10` calls it. Interrupted downloads go on where they stopped; what does
not match its checksum is thrown away; archives are unpacked with `doorward.data.archives`.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from doorward.data.archives import unpack
from doorward.data.registry import DATASETS, Download, data_root, locate
from doorward.errors import BadFile, MissingData, StorageFailed

__all__ = ["Progress", "fetch", "fetch_file"]

Progress = Callable[[str, int, int | None], None]
"""Called as ``progress(filename, bytes so far, bytes in all or None)``."""

_ATTEMPTS = 4


def fetch(
    name: str,
    root: str | os.PathLike[str] | None = None,
    *,
    splits: Sequence[str] = ("train", "test"),
    progress: Progress | None = None,
) -> list[Path]:
    """Download what is missing of a named data set and check it.

    Args:
        name: one of `DATASETS`.
        root: the folder for data sets; None for `data_root()`.
        splits: which splits are wanted; nothing is downloaded for those that are there.
        progress: called while bytes arrive.

    Returns:
        The downloaded files and folders, empty when everything was there.

    Raises:
        UnknownName: no data set or split is called so.
        MissingData: no connection, or the server refuses; the message says where to put the file
            by hand.
        BadFile: the download does not match its checksum.
        UnsafeFile: an archive tries to write outside its folder.
        StorageFailed: the disk is full or not writable.
    """
    folder = data_root(root)
    facts = DATASETS.facts(name)
    wanted = [split for split in splits if not _present(name, folder, split)]
    fetched = []
    for download in facts["downloads"] if wanted else ():
        if not download.split or download.split in wanted:
            fetched.append(fetch_file(download, folder, progress=progress))
    return fetched


def fetch_file(download: Download, root: Path, *, progress: Progress | None = None) -> Path:
    """Download one file (or take it, when it lies there already), check it, unpack archives.

    Args:
        download: what, and its checksum.
        root: the folder for data sets.
        progress: called while bytes arrive.

    Returns:
        The file, or the folder that the archive was unpacked into.

    Raises:
        MissingData, BadFile, UnsafeFile, StorageFailed: see `fetch`.
    """
    import pooch

    folder = root / download.folder
    place = folder / download.filename
    resume = _Resume(place, progress)
    try:
        with _quiet(pooch.get_logger()):
            pooch.retrieve(
                download.url,
                download.checksum,
                fname=download.filename,
                path=folder,
                downloader=resume,
            )
    except ValueError as error:
        raise BadFile(
            f"{download.url} does not match its published checksum",
            why=f"expected {download.checksum}; the download was thrown away",
            remedy="run the same command again, or get the file from another source and put it "
            f"at {place}",
        ) from error
    except OSError as error:
        raise StorageFailed(
            f"{place} could not be written",
            why=f"{error.strerror or error}",
            remedy="free space or choose another place (DOORWARD_DATA), and run the same command "
            "again: the download goes on where it stopped",
        ) from error
    if not download.unpack:
        return place
    unpack(place, folder)
    place.unlink()
    return folder


def _present(name: str, root: Path, split: str) -> bool:
    try:
        locate(name, root, split)
    except MissingData:
        return False
    return True


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class _Resume:
    """A pooch downloader that keeps what has arrived beside `place` and asks for the rest."""

    def __init__(self, place: Path, progress: Progress | None) -> None:
        self.place, self.progress = place, progress
        self.part = place.with_name(f"{place.name}.part")

    def __call__(self, url: str, output_file: str, pooch: Any, check_only: bool = False) -> None:
        """Download `url` to `output_file`; pooch checks the checksum afterwards."""
        import httpx

        with open(self.part, "ab") as stream:
            self._lock(stream)
            for attempt in range(_ATTEMPTS):
                try:
                    self._receive(url, stream)
                    break
                except httpx.HTTPStatusError as error:
                    raise self._unreachable(url, f"the server answers {error}") from error
                except httpx.TransportError as error:
                    if attempt + 1 == _ATTEMPTS:
                        why = f"{error or type(error).__name__}"
                        raise self._unreachable(url, why) from error
                    time.sleep(0.2 * 2**attempt)
            stream.flush()
            os.replace(self.part, output_file)

    def _receive(self, url: str, stream: IO[bytes]) -> None:
        import httpx

        have = stream.tell()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with httpx.stream(
            "GET", url, headers=headers, follow_redirects=True, timeout=30.0
        ) as answer:
            if have and answer.status_code == 416:  # there is nothing after what we have
                if answer.headers.get("Content-Range") != f"bytes */{have}":
                    _empty(stream)  # we have too much: of another version of the file
                    self._receive(url, stream)
                return
            answer.raise_for_status()
            if _range_start(answer.headers.get("Content-Range", "")) != have:
                _empty(stream)  # the server sends everything
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length and length.isdigit() else None
            for block in answer.iter_raw():  # each as it comes: a break loses nothing
                stream.write(block)
                have += len(block)
                if self.progress is not None:
                    self.progress(self.place.name, have, total)

    def _lock(self, stream: IO[bytes]) -> None:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise MissingData(
                f"{self.place} is not there yet",
                why="another process is downloading it",
                remedy="wait for that one, and run the same command again",
            ) from error

    def _unreachable(self, url: str, why: str) -> MissingData:
        if self.part.stat().st_size == 0:
            self.part.unlink()
        return MissingData(
            f"{url} could not be downloaded",
            why=why.partition("\n")[0],
            remedy=f"connect to the network and run the same command again (it goes on where it "
            f"stopped), or get the file by other means, put it at {self.place} and run the same "
            "command again",
        )


def _empty(stream: IO[bytes]) -> None:
    stream.seek(0)
    stream.truncate()


def _range_start(content_range: str) -> int:
    """The first position in ``bytes 100-199/200``; 0 when there is no such header.

    >>> _range_start("bytes 100-199/200"), _range_start("")
    (100, 0)
    """
    match = re.match(r"bytes (\d+)-", content_range)
    return int(match[1]) if match else 0
