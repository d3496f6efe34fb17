"""A verifier's own list of past verifications, so that a transcript can say how many came before.

>>> import pathlib, tempfile
>>> history = History(pathlib.Path(tempfile.mkdtemp()) / "verifications.json")
>>> history.earlier("0" * 64, "named:rival")
Earlier(same=0, same_claim=0, same_suspect=0)

Whoever verifies until it suits, or accuses many models and shows one verdict, gets hits by chance.
A signed transcript that counts the earlier attempts makes the verifier answer for their number;
`doorward.watermark.verifying.several` corrects for it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, read_object
from doorward.errors import BadFile, InvalidInput, StorageFailed
from doorward.files import write_json
from doorward.records import STRICT, Record, Version1
from doorward.watermark.statement import Hash

__all__ = ["Earlier", "Entry", "History"]

Count = Annotated[int, Field(ge=0, lt=2**31, strict=True)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Earlier(Record):
    """How many verifications came before one, by the verifier's own list.

    Attributes:
        same: of the same claim on the same suspect.
        same_claim: of the same claim, on whatever suspect.
        same_suspect: of whatever claim, on the same suspect.
    """

    same: Count = 0
    same_claim: Count = 0
    same_suspect: Count = 0


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Entry(Record):
    """One verification.

    Attributes:
        claim: digest of the claim.
        suspect: the suspect's name (`suspect_id`).
        seal: names the verification itself: one that is resumed is not counted twice.
        at: when it ended.
        verified: its verdict.
    """

    claim: Hash
    suspect: str
    seal: Hash
    at: Moment
    verified: bool


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Content(Record):
    format: Literal["doorward-verifications"] = "doorward-verifications"
    version: Version1 = 1
    entries: tuple[Entry, ...] = ()


class History:
    """The list in a file; one verifier, one file.

    Args:
        path: the file; it need not exist yet.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def entries(self) -> tuple[Entry, ...]:
        """All verifications noted so far, oldest first.

        Raises:
            BadFile: the file holds no such list.
        """
        if not self.path.exists():
            return ()
        try:
            return _Content.from_dict(read_object(self.path)).entries
        except InvalidInput as error:
            raise BadFile(
                f"{self.path} is no list of verifications",
                why=error.why,
                remedy="give another file, or restore this one from a backup",
            ) from error

    def earlier(self, claim: str, suspect: str, seal: str | None = None) -> Earlier:
        """Count what came before.

        Args:
            claim: digest of the claim.
            suspect: name of the suspect.
            seal: of the verification itself, which is not counted if it is noted already.
        """
        others: list[Entry] = []
        for entry in self.entries():
            if entry.seal == seal:
                break
            others.append(entry)
        return Earlier(
            same=sum(entry.claim == claim and entry.suspect == suspect for entry in others),
            same_claim=sum(entry.claim == claim for entry in others),
            same_suspect=sum(entry.suspect == suspect for entry in others),
        )

    def note(self, entry: Entry) -> Earlier:
        """Add a verification, unless it is in the list already; return what came before it.

        Raises:
            BadFile: the file holds no such list.
            StorageFailed: it could not be written.
        """
        with self._alone():
            entries = self.entries()
            if all(entry.seal != other.seal for other in entries):
                write_json(self.path, _Content(entries=(*entries, entry)).to_dict())
            return self.earlier(entry.claim, entry.suspect, entry.seal)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from writing at the same time, so that no entry is lost."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            stream = open(self.path.with_name(f".{self.path.name}.lock"), "w")  # noqa: SIM115
        except OSError as error:
            raise StorageFailed(
                f"{self.path} cannot be written", why=str(error), remedy="choose another place"
            ) from error
        with stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield
