"""The minutes of a verification, signed by who held it: every question, every answer, the verdict.

>>> import pathlib, tempfile, torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.verifying.examination import examine
>>> from doorward.watermark.key import WatermarkKey
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> path = pathlib.Path(tempfile.mkdtemp()) / "transcript.json"
>>> examine(claim, key, innocent, public=ada.public).sign(judge).save(path)
>>> Transcript.load(path, judge.public).record.verdict.verified
False

What it proves: that the verifier vouches, for ever and for everybody, for these answers to these
questions by this suspect. With the key, or with some of its triggers opened, anybody finds the
triggers among the questions and counts again (`doorward.watermark.verifying.checking`); that the
labels are those that the owner committed to follows from the claim.

What it does not prove: that the suspect really gave these answers. No signature of the suspect is
under them; a verifier who invents answers signs a lie. Whoever has the model can ask it again: a
deterministic one gives the same answers to the same questions. Nor does it prove when anything
happened; for that, have the file time-stamped.

Each question is there as a salted hash. The salt of a trigger follows from its own secret, so that
who is shown the trigger finds it, and nobody else learns which questions were triggers; unless the
seed is in the transcript too, which tells the kind of each question and shows the covers' salts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, canonical, read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import (
    SignedDocument,
    check_document,
    sign_document,
    write_document,
)
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record, Version1, environment
from doorward.watermark.statement import Hash
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.history import Earlier
from doorward.watermark.verifying.interview import Given
from doorward.watermark.verifying.plan import QueryPlan

__all__ = ["PURPOSE", "Proceedings", "Transcript", "versions"]

PURPOSE = "watermark-transcript"

_MOST = 2**21
"""Questions of one transcript."""


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("it is shown in terminals, and holds printable characters only")
    return text


Line = Annotated[str, Field(min_length=1, max_length=2048), AfterValidator(_printable)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Proceedings(Record):
    """What a transcript says.

    Attributes:
        claim: digest of the claim (`Claim.digest`).
        suspect: the suspect's name (`suspect_id`): a hash of its content, or its address.
        plan: what was asked, and how fast.
        covers: name and hash of the cover images; None for look-alikes, or if there were none.
        triggers: numbers of the triggers that were asked about; None for all of the key's.
        seal: hash of the seed that decided the order, hex.
        seed: the seed itself, hex; None in a concealed transcript.
        queries: a salted hash of each image, in the order asked.
        answers: the label that each got, None for no answer.
        began: when the first question was asked; the verdict says when the last was answered.
        earlier: how many verifications the verifier had held before, by the verifier's own list;
            None if no list is kept.
        verdict: what the verifier found.
        versions: of the software that was used.
    """

    scheme: Literal["doorward-transcript"] = "doorward-transcript"
    version: Version1 = 1
    claim: Hash
    suspect: Line
    plan: QueryPlan
    covers: Line | None = None
    triggers: (
        Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(max_length=2**16)]
        | None
    ) = None
    seal: Hash
    seed: Hash | None = None
    queries: Annotated[tuple[Hash, ...], Field(min_length=1, max_length=_MOST)]
    answers: Annotated[tuple[Given, ...], Field(min_length=1, max_length=_MOST)]
    began: Moment
    earlier: Earlier | None = None
    verdict: Verdict
    versions: dict[str, str | None]


@plain_dataclass(frozen=True)
class Transcript:
    """Proceedings with the verifier's signature.

    Attributes:
        record: what is vouched for.
        document: the signed JSON document that it came from.
    """

    record: Proceedings
    document: Mapping[str, Any]

    @property
    def verifier(self) -> PublicIdentity:
        """Who signed, by their own account; `check` tells whether it is true."""
        return PublicIdentity.from_dict(self.document["signer"])

    @property
    def created(self) -> str:
        """When it was signed, by the verifier's own account (ISO 8601, UTC)."""
        return str(self.document["created"])

    @classmethod
    def sign(
        cls, record: Proceedings, verifier: Identity, *, created: datetime | None = None
    ) -> Self:
        """Sign proceedings."""
        document = sign_document(record.to_dict(), verifier, purpose=PURPOSE, created=created)
        return cls(record=_record(document["content"]), document=document)

    def check(self, verifier: PublicIdentity) -> None:
        """Check that a verifier signed exactly this.

        Args:
            verifier: the verifier's public identity, from a source that you trust.

        Raises:
            IntegrityError: somebody else signed it, or it was changed.
        """
        content = check_document(self.document, verifier, purpose=PURPOSE)
        if _record(content) != self.record:
            raise IntegrityError(
                "the transcript's record is not what its signature covers",
                remedy="do not trust it",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the transcript as a JSON file."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a transcript out of a signed document. The signature is not checked: see `check`.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but its content is no transcript of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not a transcript", why=error.why, remedy="get it again from the verifier"
            ) from error
        return cls(record=_record(signed.content), document=dict(document))

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


def versions() -> dict[str, str | None]:
    """Versions of what takes part in a verification.

    >>> sorted(versions())
    ['doorward', 'numpy', 'onnxruntime', 'python', 'torch']
    """
    here = environment()
    packages = {name: here["packages"][name] for name in ("torch", "numpy", "onnxruntime")}
    return {"doorward": here["doorward"], "python": here["python"], **packages}


def _record(content: Mapping[str, Any]) -> Proceedings:
    try:
        record = Proceedings.from_dict(content)
        if canonical(record.to_dict(), "the record") == canonical(content, "the transcript"):
            return record
        why = "a value is not written as this version writes it"
    except InvalidInput as error:
        why = error.why or error.what
    raise IntegrityError(
        "the transcript is not valid in this version",
        why=why,
        remedy="get it again from the verifier, or use the version of doorward that made it",
    )
