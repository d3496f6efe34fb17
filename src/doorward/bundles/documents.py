"""Reading JSON that strangers wrote: every way it can be wrong ends in one kind of error.

>>> import tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "card.json"
>>> _ = path.write_text('{"a": 1, "a": 2}')
>>> read_object(path)
Traceback (most recent call last):
doorward.errors.BadFile: ...card.json is not a JSON object that can be trusted: ... 'a' ...

`files.read_json` is for files that Doorward wrote for itself; signatures, cards and keys arrive
from elsewhere, where two readers of one file must never see two contents. Hence no repeated
names, no NaN, no lone surrogates, and a limit on the size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from doorward.errors import BadFile, InvalidInput, MissingData
from doorward.files import canonical_json

__all__ = [
    "MAX_BYTES",
    "Moment",
    "Name",
    "canonical",
    "parse_object",
    "read_limited",
    "read_object",
]

MAX_BYTES = 64 * 2**20
"""Largest JSON document that is read: far above any real one, far below the memory."""


def _is_shown_as_it_is(name: str) -> str:
    if not name.isprintable() or name != name.strip():
        raise ValueError("a name holds printable characters only, and no space around them")
    return name


def _exists(moment: str) -> str:
    datetime.strptime(moment, "%Y-%m-%dT%H:%M:%SZ")
    return moment


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_is_shown_as_it_is)]
"""What somebody calls themselves. It is shown in terminals and reports, so it holds no line breaks,
escape sequences or signs that change the direction of writing."""

Moment = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"),
    AfterValidator(_exists),
]
"""A second in UTC, ISO 8601, that exists in the calendar."""


def read_limited(path: str | os.PathLike[str], limit: int = MAX_BYTES) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        MissingData: there is no such file.
        BadFile: it is no regular file, cannot be read, or is larger than `limit`.
    """
    path = Path(path)
    try:
        if not path.is_file():  # opening a pipe or a device could wait for ever
            if path.exists():
                raise BadFile(f"{path} is not a regular file", remedy="check the path")
            raise MissingData(f"there is no file {path}", remedy="check the path")
        with path.open("rb") as stream:
            content = stream.read(limit + 1)
    except (OSError, ValueError) as error:
        raise BadFile(f"{path} cannot be read", why=str(error), remedy="check the path") from error
    if len(content) > limit:
        raise BadFile(f"{path} is larger than {limit} bytes", why="no genuine file of its kind is")
    return content


def parse_object(content: bytes, name: str) -> dict[str, Any]:
    """Parse bytes as one JSON object, strictly (see the module).

    Args:
        content: UTF-8 JSON.
        name: what to call it in messages, usually its path.

    Raises:
        BadFile: it is not UTF-8, not JSON, not an object, or ambiguous.
    """
    try:
        parsed = json.loads(
            content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant
        )
        canonical_json(parsed).decode()
    except (ValueError, RecursionError) as error:  # ValueError covers JSON, UTF-8 and big integers
        raise BadFile(
            f"{name} is not a JSON object that can be trusted",
            why=str(error),
            remedy="get it again from where it came from",
        ) from error
    if not isinstance(parsed, dict):
        raise BadFile(f"{name} is not a JSON object", why=f"it is a {type(parsed).__name__}")
    return parsed


def read_object(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a file as one JSON object, strictly (`read_limited`, then `parse_object`)."""
    return parse_object(read_limited(path), str(path))


def canonical(content: Mapping[str, Any], name: str) -> bytes:
    """`files.canonical_json` of what a reader of the JSON would see.

    A mapping with integer keys, tuples or the like has another order or type once it has been
    through a file; signatures and digests are taken after that journey.

    Raises:
        InvalidInput: `content` has no JSON form.

    >>> canonical({"b": (1, 2), 10: 0, 9: 0}, "example")
    b'{"10":0,"9":0,"b":[1,2]}'
    """
    try:
        travelled = json.loads(json.dumps(dict(content), allow_nan=False))
        return canonical_json(travelled)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{name} cannot be written as JSON",
            why=str(error),
            remedy="use only text, finite numbers, booleans, None, lists and dictionaries",
        ) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise ValueError(f"the name {name!r} occurs twice")
        content[name] = value
    return content


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
