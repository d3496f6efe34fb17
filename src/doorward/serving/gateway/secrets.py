"""The gateway's secret in a file that only its owner can read.

>>> import pathlib, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "gateway.secret"
>>> read_secret(path, make=True) == read_secret(path)
True

Whoever holds it can tell which head a tenant gets, and can prove from the evidence log what was
asked and answered. Gateways that share a database share it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from doorward.errors import BadFile, MissingData
from doorward.files import write_text
from doorward.randomness import Secret

__all__ = ["read_secret"]


def read_secret(path: str | os.PathLike[str], *, make: bool = False) -> Secret:
    """Read the secret, 32 bytes as 64 hexadecimal digits.

    Args:
        path: the file.
        make: draw one and write it if there is no such file.

    Raises:
        MissingData: there is no such file.
        BadFile: it holds something else, or others may read it.
    """
    path = Path(path)
    if make and not path.exists():
        write_text(path, Secret.new().reveal().hex() + "\n", private=True)
    try:
        text, mode = path.read_text(encoding="utf-8").strip(), path.stat().st_mode
    except FileNotFoundError:
        raise MissingData(f"there is no file {path}", remedy="check the path") from None
    except (UnicodeDecodeError, IsADirectoryError) as error:
        raise BadFile(f"{path} is no secret of a gateway") from error
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise BadFile(f"others may read {path}", remedy=f"run: chmod 600 {path}")
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != 32:
        raise BadFile(f"{path} is no secret of a gateway", why="64 hexadecimal digits are expected")
    return Secret(value)
