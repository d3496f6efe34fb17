"""Which triggers a dispute opens: drawn by a hash, so that nobody has picked them.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=100, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)
>>> challenge = make_challenge(claim, "url:http://rival.example/v2/models/net", beacon="8f2a51c0")
>>> challenge.lots, challenge.number, len(challenge.indices)
(5, 1, 20)

An owner who may choose what to open opens what happens to match. So the lot (see
`doorward.watermark.lots`) is drawn, from those not opened yet, by a hash over all that tells this
dispute from others (Fiat and Shamir 1986): claim, suspect, beacon, lots spent. The beacon is a
public random value that appears after claim and suspect are on record, so that nobody could
prepare for the draw.

What an owner could still try, and what it gains: to repack a copied file until its hash draws a
lot that suits, to wait for a favourable beacon, to invent earlier disputes that "spent" the other
lots. All this selects one of the ``n // size`` lots of the claim, never another set of triggers,
and each of these is held to a level that is divided by their number. So the proof is sound even if
the owner chose among the lots freely, and no list of old disputes has to be collected or believed.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import cached_property
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import SignedDocument, check_document, sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.files import canonical_json, write_json
from doorward.records import STRICT, Record, Version1
from doorward.watermark.claim import Claim
from doorward.watermark.derivation import Beacon
from doorward.watermark.drawing import draw
from doorward.watermark.lots import Disclosure
from doorward.watermark.statement import Hash

__all__ = ["Challenge", "make_challenge", "rule_of"]

PURPOSE = "watermark-challenge"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Challenge(Record):
    """One dispute: everything that decides which triggers are opened.

    Attributes:
        claim: digest of the claim (`Claim.digest`).
        root: its Merkle root, hex.
        n: triggers of its key.
        size: triggers that a dispute opens, as the claim says.
        suspect: the accused model, as `suspect_id` names it.
        beacon: public random value, from after claim and suspect were put on record.
        spent: lots that earlier disputes opened, in ascending order.
    """

    scheme: Literal["doorward-challenge"] = "doorward-challenge"
    version: Version1 = 1
    claim: Hash
    root: Hash
    n: Annotated[int, Field(ge=1, le=2**16, strict=True)]
    size: Annotated[int, Field(ge=1, le=2**16, strict=True)]
    suspect: Annotated[str, Field(min_length=1, max_length=2048)]
    beacon: Beacon
    spent: tuple[Annotated[int, Field(ge=0, strict=True)], ...] = ()

    def __post_init__(self) -> None:
        if not self.suspect.isprintable():
            raise InvalidInput("the suspect's name holds more than printable characters")
        if self.size > self.n:
            raise InvalidInput(f"{self.size} triggers of {self.n} cannot be opened")
        if list(self.spent) != sorted(set(self.spent)) or any(k >= self.lots for k in self.spent):
            raise InvalidInput(
                f"the spent lots {list(self.spent)[:8]} are not possible",
                why=f"they are numbers from 0 to {self.lots - 1}, in ascending order, each once",
            )
        if len(self.spent) == self.lots:
            raise InvalidInput(
                "the claim is spent: all its lots have been opened",
                why=f"{self.n} triggers allow {self.lots} openings of {self.size}",
                remedy="mark the next model with a new key",
            )

    @property
    def lots(self) -> int:
        """Lots that the claim has in all."""
        return self.n // self.size

    @property
    def number(self) -> int:
        """Which dispute over this claim it is, from 1."""
        return len(self.spent) + 1

    @cached_property
    def lot(self) -> int:
        """The lot that is to be opened."""
        left = sorted(set(range(self.lots)) - set(self.spent))
        return left[draw(b"challenge\0" + canonical_json(self.to_dict()), len(left), 1)[0]]

    @property
    def indices(self) -> range:
        """The triggers that are to be opened."""
        return Disclosure(size=self.size).members(self.lot)

    def check(self, claim: Claim) -> None:
        """Check that this challenge is about a claim.

        Raises:
            IntegrityError: it is about another one.
            InvalidInput: the claim allows no openings, or its beacon is not an earlier one.
        """
        rule, statement = rule_of(claim), claim.statement
        asked = (self.claim, self.root, self.n, self.size)
        if asked != (claim.digest(), statement.root, statement.n, rule.size):
            raise IntegrityError(
                "the challenge is about another claim",
                why=f"it names the claim {self.claim[:16]}, not {claim.digest()[:16]}",
                remedy="draw a challenge for this claim",
            )
        if self.beacon == statement.key.beacon:
            raise InvalidInput(
                "the challenge uses the beacon that the key was made with",
                why="the owner knew it when making the claim, and could prepare for the draw",
                remedy="use a value that appeared after the claim and the suspect",
            )

    def save(self, path: str | os.PathLike[str], judge: Identity | None = None) -> None:
        """Write the challenge as JSON, signed by the judge if there is one."""
        content: dict[str, Any] = self.to_dict()
        if judge is not None:
            content = sign_document(content, judge, purpose=PURPOSE)
        write_json(path, content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], judge: PublicIdentity | None = None) -> Self:
        """Read a challenge.

        Args:
            path: the file.
            judge: who must have signed it; None accepts it unsigned, or whoever signed it. (Its
                draw can be repeated by anybody; the signature tells whose dispute it is.)

        Raises:
            MissingData: there is no such file.
            BadFile: it is no challenge.
            IntegrityError: `judge` did not sign it.
        """
        content = read_object(path)
        if judge is not None:
            content = check_document(content, judge, purpose=PURPOSE)
        try:
            if content.get("format") == "doorward-signed":
                content = SignedDocument.from_dict(content).content
            return cls.from_dict(content)
        except InvalidInput as error:
            raise BadFile(
                f"{path} is not a challenge", why=error.why, remedy="get it again from the judge"
            ) from error


def make_challenge(
    claim: Claim, suspect: str, beacon: str, *, spent: Collection[int] = ()
) -> Challenge:
    """Draw what a dispute opens. Anybody can; usually it is the judge.

    Args:
        claim: the claim; check it first.
        suspect: the accused model (`suspect_id`), put on record before the beacon appeared.
        beacon: a public random value that nobody could know before, and whose choice was agreed
            before: the next round of a randomness beacon, the hash of the next block.
        spent: lots that earlier disputes opened, as their published openings show; the owner's
            ledger lists them too.

    Returns:
        The challenge, for the owner to answer with `disclose`.

    Raises:
        InvalidInput: the claim allows no openings, or all are spent, or a value is unusable.
    """
    rule = rule_of(claim)
    challenge = Challenge.from_dict(
        {
            "claim": claim.digest(),
            "root": claim.statement.root,
            "n": claim.statement.n,
            "size": rule.size,
            "suspect": suspect,
            "beacon": beacon,
            "spent": sorted(spent),
        }
    )
    challenge.check(claim)
    return challenge


def rule_of(claim: Claim) -> Disclosure:
    """The claim's rule for openings.

    Raises:
        InvalidInput: it has none.
    """
    if claim.statement.disclosure is None:
        raise InvalidInput(
            "this claim allows no openings",
            why="its owner fixed no rule for them, and a rule made up later could be made to fit",
            remedy="verify with the whole key (doorward watermark verify)",
        )
    return claim.statement.disclosure
