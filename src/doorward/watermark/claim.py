"""The owner's public claim: a signed statement that fixes the rules before anybody is accused.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> claim.statement.n, claim.statement.needed, claim.signer.name
(40, 20, 'Ada')

It holds the Merkle root over all triggers and labels, how they are drawn, how many matches count
as proof, how many triggers a dispute opens, and who says so. Publish it with a time stamp *before*
the model leaves the house: of two claims on one model the earlier one counts.

A key with a beacon, together with the time stamp, encloses the time of its making: the triggers
hang on the beacon's value, so nobody knew them before it, and the stamped claim commits to them. A
model that was public before the beacon cannot carry the mark, and an owner who tried many keys had
no longer to do so than from the one moment to the other.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from datetime import datetime
from typing import Any, Literal, Self

from doorward.bundles.documents import canonical, read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import (
    SignedDocument,
    check_document,
    sign_document,
    write_document,
)
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.watermark.key import WatermarkKey
from doorward.watermark.lots import WEAKEST, Disclosure
from doorward.watermark.statement import Statement

__all__ = ["PROVEN", "PURPOSE", "Claim", "Statement", "make_claim"]

PURPOSE = "watermark-claim"
PROVEN = -64.0
"""log2 of the p-value that claims ask for unless their owner says otherwise."""


@plain_dataclass(frozen=True)
class Claim:
    """A statement with its signature.

    Attributes:
        statement: what is claimed.
        document: the signed JSON document that it came from.
    """

    statement: Statement
    document: Mapping[str, Any]

    @property
    def signer(self) -> PublicIdentity:
        """Who signed, by their own account; `check` tells whether it is true."""
        return PublicIdentity.from_dict(self.document["signer"])

    @property
    def created(self) -> str:
        """When it was signed, by the signer's own account (ISO 8601, UTC)."""
        return str(self.document["created"])

    def digest(self) -> str:
        """Hex SHA-256 of what was signed, by which a dispute names the claim."""
        content = canonical(self.document.get("content", {}), "the claim")
        return hashlib.sha256(b"doorward claim\0" + content).hexdigest()

    def check(self, public: PublicIdentity) -> None:
        """Check signature and consistency against the owner's public identity.

        Args:
            public: from a source that you trust, not from beside the claim.

        Raises:
            IntegrityError: somebody else signed it, it was changed, or its key belongs to
                somebody else.
        """
        content = check_document(self.document, public, purpose=PURPOSE)
        if _statement(content) != self.statement:
            raise IntegrityError(
                "the claim's statement is not what its signature covers", remedy="do not trust it"
            )
        owner = self.statement.key.owner
        if owner is not None and owner != public.fingerprint:
            raise IntegrityError(
                "the claim's key belongs to another owner than the one who signed",
                why=f"the key is bound to {owner[:16]}, the signer is {public.fingerprint[:16]}",
                remedy="do not trust it",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the claim as a JSON file, which may be published."""
        write_document(path, self.document)

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Read a claim out of a signed document. The signature is not checked yet: see `check`.

        Raises:
            BadFile: it is not a signed document.
            IntegrityError: it is one, but its content is no statement of this version.
        """
        try:
            signed = SignedDocument.from_dict(document)
        except InvalidInput as error:
            raise BadFile(
                "this is not a claim", why=error.why, remedy="get it again from its owner"
            ) from error
        return cls(statement=_statement(signed.content), document=dict(document))

    @classmethod
    def load(cls, path: str | os.PathLike[str], public: PublicIdentity | None = None) -> Self:
        """Read a claim file, and check it if `public` is given.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it was changed, or is not by `public`.
        """
        claim = cls.from_document(read_object(path))
        if public is not None:
            claim.check(public)
        return claim


def make_claim(
    key: WatermarkKey,
    identity: Identity,
    *,
    alpha: float = 2.0**PROVEN,
    disclosure: Disclosure | Literal["auto"] | None = "auto",
    model_digest: str | None = None,
    created: datetime | None = None,
) -> Claim:
    """State and sign that models which know `key` are one's own.

    Args:
        key: the key that the model was, or will be, marked with.
        identity: the owner's signing identity; the one the key was made for.
        alpha: the p-value that counts as proof, above 0 and at most 2**-20. The default, 2**-64,
            also covers an owner who tried billions of keys to find one that fits by chance.
        disclosure: what a dispute opens, and what that must show; by default
            `Disclosure.fitting`, which is nothing where the key is too small. It holds for the
            life of the claim.
        model_digest: content digest of the marked model (`bundles.digest`), if it exists already.
        created: time to write into the claim, by default now.

    Raises:
        InvalidInput: the key is bound to another owner, `alpha` is out of range or cannot be
            reached with this key's number of triggers, or the digest is not SHA-256 in hex; or
            no opening could prove anything by the rule of `disclosure`.
    """
    if key.owner is not None and key.owner != identity.public.fingerprint:
        raise InvalidInput(
            f"this key was not made for {identity.public.name}",
            why=f"it is bound to the identity {key.owner[:16]}, "
            f"not to {identity.public.fingerprint[:16]}",
            remedy="sign with the identity that the key was made for",
        )
    if not 0 < alpha <= 2.0**WEAKEST:
        raise InvalidInput(
            f"alpha is {alpha}",
            why=f"a claim's level lies above 0 and at most at 2^{WEAKEST}: keys could be drawn "
            "until one satisfies a weaker rule by chance",
            remedy="leave it out (2^-64), or choose a smaller one",
        )
    if disclosure == "auto":
        disclosure = Disclosure.fitting(key.n, key.classes)
    statement = Statement.from_dict(
        {
            "key": key.parameters.to_dict(),
            "root": key.commitment(),
            "log2_alpha": math.log2(alpha),
            "model_digest": model_digest,
            "disclosure": None if disclosure is None else disclosure.to_dict(),
        }
    )
    if statement.needed is None:
        raise InvalidInput(
            f"{key.n} triggers cannot prove anything at alpha {alpha:.3g}",
            why=f"all {key.n} matches happen by chance with probability {key.classes}^-{key.n}",
            remedy="make a key with more triggers, or choose a larger alpha",
        )
    if disclosure is not None and disclosure.needed(key.n, key.classes) is None:
        raise InvalidInput(
            f"{disclosure.size} triggers of an opening cannot prove anything at "
            f"2^{disclosure.log2_alpha:.4g}",
            why=f"all {disclosure.size} matches happen by chance with probability "
            f"{key.classes}^-{disclosure.size}, and there are {disclosure.lots(key.n)} lots",
            remedy="open more triggers in each dispute",
        )
    document = sign_document(statement.to_dict(), identity, purpose=PURPOSE, created=created)
    return Claim(statement=_statement(document["content"]), document=document)


def _statement(content: Mapping[str, Any]) -> Statement:
    try:
        return Statement.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "the claim is not a valid statement of this version",
            why=error.why,
            remedy="get it again from its owner, or use the version of doorward that made it",
        ) from error
