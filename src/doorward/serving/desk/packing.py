"""A trial as one file: a folder becomes a zip that is the same bytes wherever it is packed.

>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> _ = (folder / "model.json").write_text("{}")
>>> pack(folder, folder.with_suffix(".zip"))
>>> zipfile.ZipFile(folder.with_suffix(".zip")).namelist()
['model.json']

Hence whoever has the folder can repeat its digest. `doorward.data.archives.unpack` unpacks it.
"""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

from doorward.errors import InvalidInput
from doorward.files import atomic_file

__all__ = ["pack"]

_MOMENT = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip can say


def pack(folder: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Write the files of a folder into an uncompressed zip, sorted, without times or owners.

    Raises:
        InvalidInput: the folder is empty or holds a link.
    """
    folder = Path(folder)
    files = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    if not files:
        raise InvalidInput(f"{folder} is empty or no folder", remedy="give the trial bundle")
    if any(path.is_symlink() or not path.is_file() for path in files):
        raise InvalidInput(f"{folder} holds links", remedy="copy the files themselves into it")
    with atomic_file(target) as place, zipfile.ZipFile(place, "w") as archive:
        for path in files:
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), _MOMENT)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as sink:
                shutil.copyfileobj(source, sink, 2**20)
