"""Which triggers have been shown already: a ledger that the owner keeps beside the key.

>>> import pathlib, tempfile
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.disclosure.challenge import make_challenge
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=60, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)
>>> ledger = BurnLedger(pathlib.Path(tempfile.mkdtemp()) / "mark.burned.json", key)
>>> _ = ledger.burn(make_challenge(claim, "named:their model", "8f2a51c0"))
>>> len(ledger.read().lots), ledger.remaining(claim)
(1, 2)

A trigger that was shown can be trained away by every thief, and taught to every model: it proves
nothing in a later dispute. So the ledger is on the disk before a secret leaves the key. A crash in
between costs nothing, since the same challenge is answered again with the same lot.

Entries are chained by their hashes and the whole carries a code that only the key's holder can
make: an entry that was changed, exchanged or removed is noticed. What no file can tell of itself is
that it is an old copy put back in place; the published openings are the cure for that.
"""

from __future__ import annotations

import fcntl
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, read_object
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData, StorageFailed
from doorward.files import canonical_json, write_json
from doorward.records import STRICT, Record, Version1
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure.challenge import Challenge, rule_of
from doorward.watermark.key import WatermarkKey
from doorward.watermark.statement import Hash

__all__ = ["BurnEntry", "BurnLedger", "Burned", "beside"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BurnEntry(Record):
    """One opening.

    Attributes:
        lot: which lot of triggers was opened.
        challenge: digest of the challenge that it answered.
        suspect: whom the dispute was about.
        opened: when (UTC).
        previous: digest of the entry before; of the first, 64 zeros.
    """

    lot: Annotated[int, Field(ge=0, le=2**16, strict=True)]
    challenge: Hash
    suspect: Annotated[str, Field(max_length=2048)]
    opened: Moment
    previous: Hash


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Burned(Record):
    """The content of a ledger.

    Attributes:
        root: Merkle root of the key.
        size: triggers in a lot. A key has one cut into lots for life.
        entries: openings in their order.
        code: `WatermarkKey.authenticate` over all the rest, hex.
    """

    format: Literal["doorward-burned"] = "doorward-burned"
    version: Version1 = 1
    root: Hash
    size: Annotated[int, Field(ge=1, le=2**16, strict=True)]
    entries: tuple[BurnEntry, ...] = ()
    code: Hash = "0" * 64

    @property
    def lots(self) -> tuple[int, ...]:
        """The opened lots, in ascending order."""
        return tuple(sorted({entry.lot for entry in self.entries}))

    def authenticated(self) -> bytes:
        """The bytes that the code covers."""
        content = self.to_dict()
        del content["code"]
        return b"burned\0" + canonical_json(content)


class BurnLedger:
    """The ledger of one key.

    Args:
        path: its file; made by the first `burn`.
        key: the opened key.
    """

    def __init__(self, path: str | os.PathLike[str], key: WatermarkKey) -> None:
        self.path = Path(path)
        self._key = key

    def read(self) -> Burned:
        """Read the file and check it.

        Raises:
            MissingData: there is none (yet).
            BadFile: it is no ledger.
            IntegrityError: it was changed, or belongs to another key.
        """
        try:
            burned = Burned.from_dict(read_object(self.path))
        except InvalidInput as error:
            raise BadFile(
                f"{self.path} is not a ledger of opened triggers",
                why=error.why,
                remedy="use your backup",
            ) from error
        if burned.root != self._key.commitment():
            raise IntegrityError(
                f"{self.path} is the ledger of another key", remedy="give the one beside this key"
            )
        code = self._key.authenticate(burned.authenticated())
        chained = [entry.previous for entry in burned.entries] == _digests(burned)[:-1]
        if not (hmac.compare_digest(code, bytes.fromhex(burned.code)) and chained):
            raise IntegrityError(
                f"{self.path} was changed by somebody without the key",
                why="its code does not fit its entries",
                remedy="use your backup, and compare it with the openings you have published",
            )
        return burned

    def remaining(self, claim: Claim) -> int:
        """How many disputes the claim is still good for.

        Raises:
            InvalidInput: the claim allows no openings, or is about another key, or cuts it into
                lots of another size.
            IntegrityError, BadFile: as `read`.
        """
        rule = rule_of(claim)
        if claim.statement.root != self._key.commitment():
            raise InvalidInput("the claim is about another key", remedy="give the key's own claim")
        lots = rule.lots(claim.statement.n)
        if not self.path.exists():
            return lots
        burned = self.read()
        _require_size(rule.size, burned)
        return lots - len(burned.lots)

    def burn(self, challenge: Challenge) -> BurnEntry:
        """Note that a challenge is going to be answered; on return, that is on the disk.

        Args:
            challenge: of a claim on this key. One that is in the ledger already is answered again.

        Raises:
            InvalidInput: its lot was opened for another dispute; or the disputes that it knows are
                not those of the ledger; or it cuts the key into lots of another size.
            IntegrityError, BadFile: as `read`.
            StorageFailed: the ledger could not be written.
        """
        with _alone_in(self.path.parent):
            burned = self._read_or_start(challenge)
            for entry in burned.entries:
                if (entry.challenge, entry.lot) == (challenge.digest(), challenge.lot):
                    return entry
            _check(challenge, burned)
            entry = BurnEntry(
                lot=challenge.lot,
                challenge=challenge.digest(),
                suspect=challenge.suspect,
                opened=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                previous=_digests(burned)[-1],
            )
            draft = Burned(root=burned.root, size=burned.size, entries=(*burned.entries, entry))
            code = self._key.authenticate(draft.authenticated()).hex()
            write_json(self.path, {**draft.to_dict(), "code": code}, private=True)
        return entry

    def _read_or_start(self, challenge: Challenge) -> Burned:
        if challenge.root != self._key.commitment():
            raise InvalidInput(
                "the challenge is about another key", remedy="give the key that it names"
            )
        if self.path.exists():
            return self.read()
        if challenge.spent:
            raise MissingData(
                f"there is no ledger {self.path}",
                why=f"the challenge says that lots {list(challenge.spent)} were opened before",
                remedy="give the ledger that was written then: without it, triggers that are "
                "known already could be opened once more",
            )
        return Burned(root=challenge.root, size=challenge.size)


def beside(key: str | os.PathLike[str]) -> Path:
    """Where the ledger of a key file is, unless the owner says otherwise.

    >>> beside("keys/mark.key").name
    'mark.burned.json'
    """
    return Path(key).with_suffix(".burned.json")


def _require_size(size: int, burned: Burned) -> None:
    if size != burned.size:
        raise InvalidInput(
            f"the claim opens {size} triggers at a time",
            why=f"this key's ledger has lots of {burned.size}, and lots of two sizes overlap",
            remedy="answer disputes over the first claim only",
        )


def _check(challenge: Challenge, burned: Burned) -> None:
    _require_size(challenge.size, burned)
    if challenge.spent != burned.lots:
        raise InvalidInput(
            f"the challenge takes lots {list(challenge.spent)} for opened",
            why=f"the ledger says {list(burned.lots)}",
            remedy="tell the judge which are (doorward watermark status), for a new challenge",
        )


def _digests(burned: Burned) -> list[str]:
    """What each entry must name as the one before it, and then the next one to come."""
    return ["0" * 64, *(entry.digest() for entry in burned.entries)]


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from writing a ledger in a folder meanwhile."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageFailed(
            f"the folder {folder} cannot be used", why=str(error), remedy="check its permissions"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
