"""Files that are whole or absent: written beside their place, flushed, then renamed into it.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "result.json"
>>> write_json(path, {"accuracy": 0.98})
>>> read_json(path)["accuracy"]
0.98
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from doorward.errors import BadFile, MissingData, StorageFailed

__all__ = [
    "atomic_file",
    "atomic_folder",
    "canonical_json",
    "home_folder",
    "read_json",
    "sha256_file",
    "write_bytes",
    "write_json",
    "write_text",
]


def home_folder() -> Path:
    """Where Doorward keeps what can be fetched or made again: ``$DOORWARD_HOME``.

    Without that variable ``~/.cache/doorward``. The folder need not exist yet.
    """
    named = os.environ.get("DOORWARD_HOME")
    return (Path(named) if named else Path.home() / ".cache" / "doorward").expanduser()


def _storage_failed(path: Path, error: OSError) -> StorageFailed:
    free = ""
    with suppress(OSError):
        free = f" ({shutil.disk_usage(path.parent).free / 2**20:.0f} MiB free there)"
    return StorageFailed(
        f"{path} could not be written",
        why=f"{error.strerror or error}{free}; nothing was left half-written",
        remedy="free space or choose another place, and run the same command again",
    )


@contextmanager
def atomic_file(path: str | os.PathLike[str], *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it replaces `path`, on error it is removed.

    Args:
        path: where the file shall be; missing parent folders are made.
        private: create the file readable by its owner only (mode 0600), for keys.

    Raises:
        StorageFailed: the file system refused (full disk, no permission).
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            os.chmod(temporary, 0o600 if private else 0o666 & ~_umask())
            _flush(temporary)
            os.replace(temporary, path)
            _flush(path.parent)
        except OSError as error:
            raise _storage_failed(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary folder; on success it takes the place of folder `path`.

    An existing folder is swapped out whole, so a reader finds the old or the new one; if the
    process dies between the two renames, the old one is left beside it as ``.NAME.old``.

    Raises:
        StorageFailed: the file system refused.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file():
                    _flush(file)
            os.chmod(temporary, 0o777 & ~_umask())
            retired = path.with_name(f".{path.name}.old")
            if path.exists():
                shutil.rmtree(retired, ignore_errors=True)
                os.replace(path, retired)
            os.replace(temporary, path)
            _flush(path.parent)
            shutil.rmtree(retired, ignore_errors=True)
        except OSError as error:
            raise _storage_failed(path, error) from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: str | os.PathLike[str], content: bytes, *, private: bool = False) -> None:
    """Write `content` to `path` atomically (see `atomic_file`)."""
    with atomic_file(path, private=private) as temporary:
        temporary.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str, *, private: bool = False) -> None:
    """Write `content` to `path` atomically as UTF-8."""
    write_bytes(path, content.encode(), private=private)


def write_json(
    path: str | os.PathLike[str], content: Mapping[str, Any] | list[Any], *, private: bool = False
) -> None:
    """Write `content` to `path` atomically as indented JSON; NaN and infinity are refused."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + "\n", private=private)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        MissingData: there is no such file.
        BadFile: it is not UTF-8 JSON.
    """
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MissingData(f"there is no file {path}", remedy="check the path") from None
    except IsADirectoryError:
        raise BadFile(f"{path} is a folder", why="a JSON file is expected") from None
    except (ValueError, RecursionError) as error:
        raise BadFile(
            f"{path} is not valid JSON", why=str(error), remedy="restore it from its source"
        ) from error


def canonical_json(content: Any) -> bytes:
    """The one byte string of a JSON value that digests and signatures are taken over.

    Keys sorted, no white space, UTF-8, no NaN.

    >>> canonical_json({"b": 1, "a": [True, None]})
    b'{"a":[true,null],"b":1}'
    """
    text = json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )
    return text.encode()


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
