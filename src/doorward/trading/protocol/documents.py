"""What the parties sign: the listing, and the buyer's reports.

>>> from doorward.bundles.identity import Identity
>>> bob = Identity.new("Bob")
>>> document = sign_report(Finding(deal="0" * 64, subject="trial",
...                                counts=Counts(successes=931, trials=1000)), bob)
>>> check_report(document, bob.public).counts.successes
931
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import check_document, sign_document
from doorward.errors import IntegrityError
from doorward.records import STRICT, Record
from doorward.trading.protocol.terms import Counts, Digest, Listing

__all__ = [
    "Finding",
    "check_listing",
    "check_report",
    "document_digest",
    "sign_listing",
    "sign_report",
]

_LISTING, _REPORT = "trade-listing", "trade-report"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finding(Record):
    """What a buyer says to have found.

    Attributes:
        deal: the deal's id.
        subject: the trial's accuracy, the trigger after unlocking, or a key that does not open.
        counts: right answers (trial) or working triggers (unlocked); None for a broken key.
        remark: in words.
    """

    deal: Digest
    subject: Literal["trial", "unlocked", "key"]
    counts: Counts | None = None
    remark: Annotated[str, Field(max_length=2000)] = ""


def sign_listing(listing: Listing, seller: Identity) -> dict[str, Any]:
    """The listing as a signed document.

    Raises:
        IntegrityError: it names another seller.
    """
    if listing.seller != seller.public.fingerprint:
        raise IntegrityError("the listing names another seller", remedy="sign your own")
    return sign_document(listing.to_dict(), seller, purpose=_LISTING)


def check_listing(document: Mapping[str, Any], seller: PublicIdentity) -> Listing:
    """The listing in a document that `seller` signed.

    Raises:
        BadFile: it is no signed document.
        IntegrityError: the signature does not fit, or it names another seller.
        InvalidInput: the listing in it is not valid.
    """
    listing = Listing.from_dict(check_document(document, seller, purpose=_LISTING))
    if listing.seller != seller.fingerprint:
        raise IntegrityError("the listing names another seller than the one who signed it")
    return listing


def sign_report(finding: Finding, buyer: Identity) -> dict[str, Any]:
    """A buyer's finding as a signed document."""
    return sign_document(finding.to_dict(), buyer, purpose=_REPORT)


def check_report(document: Mapping[str, Any], buyer: PublicIdentity) -> Finding:
    """The finding in a document that `buyer` signed (errors as `check_listing`)."""
    return Finding.from_dict(check_document(document, buyer, purpose=_REPORT))


def document_digest(document: Mapping[str, Any]) -> str:
    """Hex SHA-256 of a document's canonical JSON."""
    return hashlib.sha256(canonical(document, "the document")).hexdigest()
