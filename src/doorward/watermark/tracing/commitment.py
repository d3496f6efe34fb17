"""Binding the seller to the register of buyers, in public and without showing it.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=60, image_shape=(1, 16, 16), owner=ada.public)
>>> register = Register.of(key).sell("Acme").sell("Bolt")
>>> commitment = commit_register(register, ada)
>>> commitment.check(ada.public); commitment.require(register)
>>> commitment.require(register.sell("Corp"))
Traceback (most recent call last):
doorward.errors.IntegrityError: the register is not the one that was committed to: it differs in...

Publish a commitment with a time stamp after each sale, and hand the buyer the receipt
(`doorward.watermark.tracing.receipts`): from then on the seller can neither give the payload to
somebody else nor pretend that a copy was never sold.

What this proves to a third party, and what not. With the key, the register, and a commitment that
is older than the leak, anybody can repeat the tracing: the suspect answers labels that were fixed
for this payload by the key's root, and the payload was this buyer's before the leak. So the leaked
model comes from *a copy marked for that buyer*. It does not follow that the buyer let it out. The
seller knows the marks of all copies and can make any of them again, so a dishonest seller can frame
a buyer, and a thief in the seller's house looks like the buyer. Only protocols in which the seller
never sees the buyer's copy exclude that (asymmetric fingerprinting: Pfitzmann and Schunter 1996);
they are not built here. A trace is evidence for the seller's own decision, and for a judge who
trusts the seller.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass as plain_dataclass
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.signed import SignedDocument, check_document, sign_document, write_document
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.records import STRICT, Record, Version1
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.tracing.code import MAX_BITS
from doorward.watermark.tracing.register import MAX_SALES, Hash, Register

__all__ = ["PURPOSE", "RegisterCommitment", "RegisterStatement", "commit_register"]

PURPOSE = "watermark-register"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RegisterStatement(Record):
    """What a seller says of the register, without showing it.

    Attributes:
        key: public parameters of the tracing key.
        root: the key's commitment, hex: it fixes the labels of every payload.
        bits: length of a payload.
        sales: how many copies have been sold.
        register: Merkle root over the sales, hex.
    """

    scheme: Literal["doorward-register"] = "doorward-register"
    version: Version1 = 1
    key: KeyParameters
    root: Hash
    bits: Annotated[int, Field(ge=1, le=MAX_BITS, strict=True)]
    sales: Annotated[int, Field(ge=1, le=MAX_SALES, strict=True)]
    register: Hash

    @classmethod
    def of(cls, register: Register) -> Self:
        """The statement that is true of a register."""
        return cls(
            key=register.key,
            root=register.root,
            bits=register.bits,
            sales=len(register),
            register=register.tree().root.hex(),
        )


@plain_dataclass(frozen=True)
class RegisterCommitment:
    """A statement with its signature.

    Attributes:
        statement: what is stated.
        document: the signed JSON document that it came from.
    """

    statement: RegisterStatement
    document: Mapping[str, Any]

    @property
    def created(self) -> str:
        """When it was signed, by the signer's own account (ISO 8601, UTC)."""
        return str(self.document["created"])

    def check(self, public: PublicIdentity) -> None:
        """Check the signature against the seller's public identity.

        Args:
            public: from a source that you trust, not from beside the commitment.

        Raises:
            IntegrityError: somebody else signed it, it was changed, or the key is bound to
                somebody else.
        """
        content = check_document(self.document, public, purpose=PURPOSE)
        if _statement(content) != self.statement:
            raise IntegrityError(
                "the statement is not what its signature covers", remedy="do not trust it"
            )
        owner = self.statement.key.owner
        if owner is not None and owner != public.fingerprint:
            raise IntegrityError(
                "the tracing key belongs to another owner than the one who signed",
                why=f"the key is bound to {owner[:16]}, the signer is {public.fingerprint[:16]}",
                remedy="do not trust it",
            )

    def require(self, register: Register) -> None:
        """Refuse a register that is not the one committed to.

        Raises:
            IntegrityError: a sale was changed, added, left out or moved since, or the key is
                another.
        """
        try:
            now = RegisterStatement.of(register)
        except InvalidInput as error:
            raise IntegrityError("the register is empty", why=error.why) from error
        if now != self.statement:
            names = RegisterStatement.__dataclass_fields__
            other = [x for x in names if getattr(now, x) != getattr(self.statement, x)]
            raise IntegrityError(
                "the register is not the one that was committed to",
                why=f"it differs in: {', '.join(other)}",
                remedy="give the register as it was then, or the commitment made of this one",
            )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the commitment as a JSON file, which may be published."""
        write_document(path, self.document)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], public: PublicIdentity | None = None
    ) -> RegisterCommitment:
        """Read a commitment, and check it if `public` is given.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a signed document.
            IntegrityError: it was changed, or is not by `public`, or states no register.
        """
        document = read_object(path)
        try:
            content = SignedDocument.from_dict(document).content
        except InvalidInput as error:
            raise BadFile(
                f"{path} is no commitment", why=error.why, remedy="get it again from its signer"
            ) from error
        commitment = cls(_statement(content), document)
        if public is not None:
            commitment.check(public)
        return commitment


def commit_register(
    register: Register, identity: Identity, *, created: datetime | None = None
) -> RegisterCommitment:
    """State and sign what the register holds now.

    Args:
        register: with one sale at least.
        identity: the seller's signing identity; the one the tracing key was made for.
        created: time to write into it, by default now.

    Raises:
        InvalidInput: nothing has been sold, or the key is bound to another owner.
    """
    owner = register.key.owner
    if owner is not None and owner != identity.public.fingerprint:
        raise InvalidInput(
            f"this register's key was not made for {identity.public.name}",
            why=f"it is bound to the identity {owner[:16]}, "
            f"not to {identity.public.fingerprint[:16]}",
            remedy="sign with the identity that the key was made for",
        )
    content = RegisterStatement.of(register).to_dict()
    document = sign_document(content, identity, purpose=PURPOSE, created=created)
    return RegisterCommitment(_statement(document["content"]), document)


def _statement(content: Mapping[str, Any]) -> RegisterStatement:
    try:
        return RegisterStatement.from_dict(content)
    except InvalidInput as error:
        raise IntegrityError(
            "this is no valid commitment to a register",
            why=error.why,
            remedy="get it again from its signer, or use the version of doorward that made it",
        ) from error
