"""JSON documents with a signature: claims, evidence, receipts.

>>> from doorward.bundles.identity import Identity
>>> ada = Identity.new("Ada")
>>> document = sign_document({"model": "resnet8"}, ada, purpose="claim")
>>> check_document(document, ada.public, purpose="claim")
{'model': 'resnet8'}
>>> document["content"]["model"] = "vit"
>>> check_document(document, ada.public, purpose="claim")
Traceback (most recent call last):
doorward.errors.IntegrityError: the signature does not fit: ...

The signature covers the canonical JSON of everything else in the document: content, purpose, time
and signer. A document signed for one purpose is refused for any other.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, canonical, parse_object, read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.files import write_json
from doorward.records import STRICT, Record, Version1

__all__ = ["SignedDocument", "check_document", "read_document", "sign_document", "write_document"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SignedDocument(Record):
    """What a signed document consists of."""

    format: Literal["doorward-signed"] = "doorward-signed"
    version: Version1 = 1
    purpose: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,99}$")]
    created: Moment
    signer: PublicIdentity
    content: dict[str, Any]
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def signed(self) -> bytes:
        """The bytes under the signature: all fields but the signature."""
        fields = self.to_dict()
        del fields["signature"]
        return canonical(fields, "the document")


def sign_document(
    content: Mapping[str, Any], identity: Identity, *, purpose: str, created: datetime | None = None
) -> dict[str, Any]:
    """Sign a JSON object.

    Args:
        content: JSON-ready data.
        identity: who signs.
        purpose: what the document is, in lower-case ASCII ("watermark-claim").
        created: time to write into it (with a time zone), by default now.

    Returns:
        The document, JSON-ready (see `SignedDocument`).

    Raises:
        InvalidInput: `content` is not JSON, the purpose is malformed, or the time has no zone.
    """
    moment = created or datetime.now(UTC)
    if moment.tzinfo is None:
        raise InvalidInput("the time of signing has no time zone", remedy="use datetime.now(UTC)")
    draft = SignedDocument.from_dict(
        {
            "purpose": purpose,
            "created": moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "signer": identity.public.to_dict(),
            # What is signed is what a reader of the file will see: tuples are lists there.
            "content": parse_object(canonical(content, "the content"), "the content"),
            "signature": "0" * 128,
        }
    )
    signature = identity.sign(draft.signed(), purpose=_domain(purpose))
    return {**draft.to_dict(), "signature": signature.hex()}


def check_document(
    document: Mapping[str, Any], public: PublicIdentity, *, purpose: str
) -> dict[str, Any]:
    """Check a signed document and hand out its content.

    Args:
        document: what `sign_document` made, or anything a stranger sent.
        public: who must have signed it.
        purpose: what it must be.

    Returns:
        The content. The document's ``created`` is what the signer said; it is no proof of time.

    Raises:
        BadFile: it is not a signed document.
        IntegrityError: another signer, another purpose, or it was changed.
    """
    try:
        parsed = SignedDocument.from_dict(document)
        message = parsed.signed()
        if canonical(document, "the document") != canonical(parsed.to_dict(), "the document"):
            raise InvalidInput("a field is missing, or not written as it was signed")
    except (InvalidInput, TypeError, ValueError) as error:
        raise BadFile(
            "this is not a signed document",
            why=getattr(error, "why", "") or str(error),
            remedy="get it again from its signer",
        ) from error
    if parsed.purpose != purpose:
        raise IntegrityError(
            f"the document is a {parsed.purpose!r}, not a {purpose!r}", remedy="give the other file"
        )
    if parsed.signer.ed25519 != public.ed25519:
        raise IntegrityError(
            "the document was signed by somebody else",
            why=f"expected {public.name} ({public.fingerprint[:16]}), "
            f"found {parsed.signer.name} ({parsed.signer.fingerprint[:16]})",
            remedy="check whose public identity you were given",
        )
    public.verify(message, bytes.fromhex(parsed.signature), purpose=_domain(purpose))
    parsed.signer.check()
    return parsed.content


def write_document(path: str | os.PathLike[str], document: Mapping[str, Any]) -> None:
    """Write a signed document as JSON, atomically."""
    write_json(path, dict(document))


def read_document(
    path: str | os.PathLike[str], public: PublicIdentity, *, purpose: str
) -> dict[str, Any]:
    """Read a signed document and check it (see `check_document`).

    Raises:
        MissingData: there is no such file.
        BadFile: it is not a signed document.
        IntegrityError: it is not what was signed.
    """
    return check_document(read_object(path), public, purpose=purpose)


def _domain(purpose: str) -> str:
    return f"document/{purpose}"
