"""The minutes of a verification, signed by who held it: all answers, and the verdict.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.data import load
>>> from doorward.honeypot.lean import Entry, LeanKey, Menu
>>> from doorward.honeypot.proof.claim import make_claim
>>> from doorward.honeypot.proof.verification import examine
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> ada, judge, key = Identity.new("Ada"), Identity.new("Judge"), LeanKey.new(bits=3)
>>> claim = make_claim(key, menu, ada)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> digits = load("digits", split="test", size=16)
>>> minutes = Transcript.sign(examine(claim, key, innocent, digits, public=ada.public), judge)
>>> check_transcript(minutes, claim, key, public=ada.public, verifier=judge.public).verified
False

The verifier vouches that these were the answers; whoever has the key counts again, whoever has the
suspect asks again. That the images are those which the claim determines follows from their source,
which the checker names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import SignedDocument, check_document, sign_document, write_document
from doorward.data import ImageSource
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.honeypot.lean.key import LeanKey
from doorward.honeypot.lean.menu import pick_images
from doorward.honeypot.proof.asking import Told
from doorward.honeypot.proof.claim import LeanClaim
from doorward.honeypot.proof.counting import count_again, image_seed, opens
from doorward.honeypot.proof.verdict import Verdict
from doorward.honeypot.proof.verification import Examination
from doorward.records import STRICT, Record

__all__ = ["PURPOSE", "Minutes", "Transcript", "check_transcript"]

PURPOSE = "honeypot-lean-transcript"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Minutes(Record):
    """What a transcript says.

    Attributes:
        claim: digest of the claim (`LeanClaim.digest`).
        truth: true labels of the images, by the verifier's data set.
        told: the suspect's answers.
        controls: the controls' answers to the same.
        verdict: what the verifier found.
    """

    scheme: Literal["doorward-honeypot-transcript"] = "doorward-honeypot-transcript"
    version: Literal[1] = 1
    claim: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    truth: Annotated[
        tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(max_length=100_000)
    ]
    told: Told
    controls: Annotated[tuple[Told, ...], Field(max_length=10_000)] = ()
    verdict: Verdict


@plain_dataclass(frozen=True)
class Transcript:
    """Minutes with the verifier's signature.

    Attributes:
        minutes: what is vouched for.
        document: the signed JSON document that it came from.
    """

    minutes: Minutes
    document: Mapping[str, Any]

    @classmethod
    def sign(cls, examination: Examination, verifier: Identity) -> Self:
        """Sign an examination.

        Raises:
            InvalidInput: the suspect was not asked: there is nothing to vouch for.
        """
        if examination.told is None:
            raise InvalidInput(
                "there are no answers to vouch for", why="the suspect was not asked anything"
            )
        minutes = Minutes(
            claim=examination.claim,
            truth=examination.truth,
            told=examination.told,
            controls=examination.controls,
            verdict=examination.verdict,
        )
        document = sign_document(minutes.to_dict(), verifier, purpose=PURPOSE)
        return cls(_minutes(document["content"]), document)

    @property
    def verifier(self) -> PublicIdentity:
        """Who signed, by their own account."""
        return PublicIdentity.from_dict(self.document["signer"])

    def check(self, verifier: PublicIdentity) -> None:
        """Check that a verifier signed exactly this.

        Raises:
            IntegrityError: somebody else signed it, or it was changed.
        """
        content = check_document(self.document, verifier, purpose=PURPOSE)
        if _minutes(content) != self.minutes:
            raise IntegrityError(
                "the transcript is not what its signature covers", remedy="do not trust it"
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the transcript as a JSON file."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a transcript out of a signed document. The signature is not checked: see `check`.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but no transcript of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not a transcript", why=error.why, remedy="get it again from the verifier"
            ) from error
        return cls(_minutes(signed.content), dict(document))

    @classmethod
    def load(cls, path: str | os.PathLike[str], verifier: PublicIdentity | None = None) -> Self:
        """Read a transcript's file, and check its signature if `verifier` is given.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it was changed, or is not by `verifier`.
        """
        transcript = cls.from_document(read_object(path))
        if verifier is not None:
            transcript.check(verifier)
        return transcript


def check_transcript(
    transcript: Transcript | str | os.PathLike[str],
    claim: LeanClaim | str | os.PathLike[str],
    key: LeanKey,
    *,
    public: PublicIdentity,
    verifier: PublicIdentity,
    clean: ImageSource | None = None,
) -> Verdict:
    """Check somebody else's verification, offline: signatures, commitment, and every count.

    Args:
        transcript: the transcript, or the path of its file.
        claim: the claim that it is about, or the path of its file.
        key: the opened key.
        public: the owner's public identity, from a source that you trust.
        verifier: the verifier's, likewise.
        clean: the verifier's images, if you have them: then their true labels are checked.

    Returns:
        The verdict, reached anew from the answers.

    Raises:
        IntegrityError: a signature does not fit, it is about another claim or key, or the verdict
            does not follow from the answers.
        BadFile, MissingData: a file is not there, or is no claim or transcript.
    """
    claim = claim if isinstance(claim, LeanClaim) else LeanClaim.load(claim)
    transcript = transcript if isinstance(transcript, Transcript) else Transcript.load(transcript)
    claim.check(public)
    transcript.check(verifier)
    minutes = transcript.minutes
    _require(minutes.claim == claim.digest(), "the transcript is about another claim")
    _require(opens(claim.statement, key), "the key does not open the claim's commitment")
    if clean is not None and len(clean) >= claim.statement.looks[-1]:
        _, labels = pick_images(clean, claim.statement.looks[-1], image_seed(claim))
        truth = tuple(int(label) for label in labels[: len(minutes.truth)])
        _require(truth == minutes.truth, "the images are not those that the claim determines")
    stated = minutes.verdict
    _require(stated.log2_alpha <= claim.statement.log2_alpha, "the rule is weaker than the claim's")
    try:
        again = count_again(
            claim, key, minutes.told, minutes.truth, minutes.controls, stated.log2_alpha
        )
    except InvalidInput as error:
        raise IntegrityError(
            "the transcript's answers do not fit the claim", why=error.why or error.what
        ) from error
    again = replace(again, suspect=stated.suspect, verified_at=stated.verified_at)
    _require(again == stated, "the verdict does not follow from the answers")
    return again


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise IntegrityError(what, remedy="do not trust it")


def _minutes(content: Mapping[str, Any]) -> Minutes:
    try:
        return Minutes.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "the transcript is not valid in this version",
            why=error.why or error.what,
            remedy="get it again from the verifier",
        ) from error
