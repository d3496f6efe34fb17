"""Prove ownership in public, again and again: each dispute opens a few triggers and burns them.

>>> import pathlib, tempfile
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.disclosure.challenge import make_challenge
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.disclosure.judging import verify_opening
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=60, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)                              # published before the model

The judge records the suspect, waits for the next value of a public beacon, and draws; the owner
answers, after the ledger has noted which triggers are known from now on; anybody checks:

>>> import torch
>>> rival = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> challenge = make_challenge(claim, "named:rival", beacon="8f2a51c0")
>>> ledger = BurnLedger(pathlib.Path(tempfile.mkdtemp()) / "mark.burned.json", key)
>>> opening = disclose(key, claim, challenge, ada, ledger)
>>> verdict = verify_opening(claim, challenge, opening, rival, public=ada.public, name="rival")
>>> verdict.verified, verdict.n, verdict.needed
(False, 20, 17)

The null hypothesis is that of `doorward.watermark.verification`, for the opened triggers alone;
`doorward.watermark.lots` derives the level, and `doorward.watermark.disclosure.challenge` says why
nobody can steer which triggers are opened. Accusing many models costs: a key tried on k suspects
has k times the chance to hit an innocent one. And the judge asks the suspect *before* the opening
is published: whoever runs an endpoint could learn the pictures from it, and answer them falsely.

Selective disclosure with Merkle paths is ours. Adi et al. (2018) bound the number of public proofs
by embedding several backdoors, of which each proof reveals one: here, these are the lots.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import (
    SignedDocument,
    check_document,
    sign_document,
    write_document,
)
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure.burning import BurnLedger
from doorward.watermark.disclosure.challenge import Challenge
from doorward.watermark.key import WatermarkKey
from doorward.watermark.opened import OpenedTrigger, RevealedTriggers, open_triggers

__all__ = ["PURPOSE", "Answer", "Opening", "disclose"]

PURPOSE = "watermark-opening"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Answer(Record):
    """What an opening says.

    Attributes:
        challenge: what it answers.
        triggers: the triggers of the challenge's lot, in ascending order.
    """

    scheme: Literal["doorward-opening"] = "doorward-opening"
    version: Version1 = 1
    challenge: Challenge
    triggers: Annotated[tuple[OpenedTrigger, ...], Field(min_length=1, max_length=2**16)]


@plain_dataclass(frozen=True)
class Opening:
    """An answer with the owner's signature.

    Attributes:
        answer: what is opened, for which challenge.
        document: the signed JSON document that it came from.
    """

    answer: Answer
    document: Mapping[str, Any]

    def reveal(
        self, claim: Claim, challenge: Challenge, public: PublicIdentity
    ) -> RevealedTriggers:
        """Check everything that can be checked without the suspect, and draw the triggers again.

        Args:
            claim: the claim, itself checked.
            challenge: what had to be answered: the judge's own copy, not the one in the opening.
            public: the owner's public identity, from a source that you trust.

        Raises:
            IntegrityError: somebody else signed, or it answers another challenge, or opens other
                triggers than those drawn, or they are not those that the claim committed to.
        """
        content = check_document(self.document, public, purpose=PURPOSE)
        if _answer(content) != self.answer:
            raise IntegrityError(
                "the opening is not what its signature covers", remedy="do not trust it"
            )
        challenge.check(claim)
        if self.answer.challenge != challenge:
            raise IntegrityError(
                "the opening answers another challenge",
                why=f"it is about {self.answer.challenge.suspect:.80} and the beacon "
                f"{self.answer.challenge.beacon:.40}",
                remedy="ask the owner to answer this one",
            )
        if [trigger.index for trigger in self.answer.triggers] != list(challenge.indices):
            raise IntegrityError(
                "the opening shows other triggers than the challenge has drawn",
                why=f"drawn are {challenge.indices[0]} to {challenge.indices[-1]}",
                remedy="do not trust it",
            )
        root = bytes.fromhex(claim.statement.root)
        return RevealedTriggers(claim.statement.key, root, self.answer.triggers)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the opening as JSON: for the judge, and after the verdict for everybody."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read an opening out of a signed document. Nothing is checked yet: see `reveal`.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but its content is no opening of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not an opening", why=error.why, remedy="get it again from its owner"
            ) from error
        return cls(answer=_answer(signed.content), document=dict(document))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read an opening's file (see `from_document`).

        Raises:
            MissingData: there is no such file.
            BadFile, IntegrityError: as `from_document`.
        """
        return cls.from_document(read_object(path))


def disclose(
    key: WatermarkKey, claim: Claim, challenge: Challenge, identity: Identity, ledger: BurnLedger
) -> Opening:
    """Answer a challenge: burn its lot of triggers, and sign them over to the judge.

    Args:
        key: the key.
        claim: the claim on it.
        challenge: the dispute. The same one is always answered in the same way, so a lost opening
            costs nothing.
        identity: the owner's signing identity, the one that signed the claim.
        ledger: the key's ledger. It is on the disk before this returns anything.

    Raises:
        IntegrityError: the claim is not by `identity`, or the challenge not about the claim; or the
            ledger was changed.
        InvalidInput: the claim is not about this key, or allows no openings; or the ledger refuses
            (see `BurnLedger.burn`).
        MissingData: the challenge knows of earlier disputes, and there is no ledger.
        StorageFailed: the ledger could not be written; then nothing has been opened.
    """
    claim.check(identity.public)
    if (key.parameters, key.commitment()) != (claim.statement.key, claim.statement.root):
        raise InvalidInput("the claim is about another key", remedy="give the key that it is about")
    challenge.check(claim)
    ledger.burn(challenge)
    answer = Answer(challenge=challenge, triggers=open_triggers(key, challenge.indices))
    document = sign_document(answer.to_dict(), identity, purpose=PURPOSE)
    return Opening(answer=_answer(document["content"]), document=document)


def _answer(content: Mapping[str, Any]) -> Answer:
    try:
        return Answer.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "the opening is not valid in this version",
            why=error.why,
            remedy="get it again from its owner, or use the version of doorward that made it",
        ) from error
