"""The public half of an identity: what others need to check an owner's signatures.

>>> from doorward.bundles.identity import Identity
>>> ada = Identity.new("Ada")
>>> ada.public.verify(b"I was here", ada.sign(b"I was here"))
>>> PublicIdentity.from_dict(ada.public.to_dict()) == ada.public
True

The Ed25519 key certifies everything else in it, and its fingerprint names the whole identity.
"""

from __future__ import annotations

import hashlib
import os
from typing import Annotated, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import Moment, Name, canonical, read_object
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.files import write_json, write_text
from doorward.records import STRICT, Record, Version1

__all__ = ["CERTIFICATE", "PublicIdentity", "fingerprint", "tagged"]

CERTIFICATE = "p256-certificate"
"""The purpose of the signature with which an Ed25519 key certifies its P-256 key."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PublicIdentity(Record):
    """The public half of an `Identity`: give it to whoever shall check your signatures.

    Attributes:
        name: what the owner calls themselves; certified by the key, but anybody may choose it.
        ed25519: public key, 32 bytes as hex.
        p256: public key for model folders, a compressed SEC 1 point as hex.
        created: when, ISO 8601 in UTC.
        certificate: Ed25519 signature over the other fields, as hex.
        fingerprint: SHA-256 of the Ed25519 key; compare it over another channel.
    """

    format: Literal["doorward-identity"] = "doorward-identity"
    version: Version1 = 1
    name: Name
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ed25519: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    p256: Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]
    created: Moment
    certificate: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def verify(self, message: bytes, signature: bytes, *, purpose: str = "message") -> None:
        """Check an Ed25519 signature made by `Identity.sign` with the same `purpose`.

        Raises:
            IntegrityError: it does not fit the message, the purpose or this identity.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.ed25519))
            key.verify(signature, tagged(purpose, message))
        except (InvalidSignature, ValueError) as error:
            raise IntegrityError(
                "the signature does not fit",
                why=f"the content was changed, or {self.name} ({self.fingerprint[:16]}) "
                f"did not sign it as a {purpose}",
                remedy="do not trust it; ask the owner for the original",
            ) from error

    def p256_pem(self) -> str:
        """The P-256 key as PEM, for ``model_signing verify key --public_key``."""
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), bytes.fromhex(self.p256))
        return key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ).decode()

    def certified(self) -> bytes:
        """The bytes that `certificate` signs: all other fields."""
        content = self.to_dict()
        del content["certificate"]
        return canonical(content, "the identity")

    def check(self) -> None:
        """Check that the fields belong together: fingerprint, P-256 point, certificate.

        Raises:
            IntegrityError: they do not.
        """
        if self.fingerprint != fingerprint(bytes.fromhex(self.ed25519)):
            raise IntegrityError(
                f"the public identity of {self.name} does not fit its fingerprint",
                remedy="ask the owner for the original file",
            )
        self.verify(self.certified(), bytes.fromhex(self.certificate), purpose=CERTIFICATE)
        try:
            self.p256_pem()
        except ValueError as error:
            raise IntegrityError(
                f"the P-256 key of {self.name} is no point of the curve", why=str(error)
            ) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the public identity as JSON."""
        write_json(path, self.to_dict())

    def save_pem(self, path: str | os.PathLike[str]) -> None:
        """Write the P-256 key as PEM (see `p256_pem`)."""
        write_text(path, self.p256_pem())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PublicIdentity:
        """Read a public identity and check that it is consistent.

        Raises:
            MissingData: there is no such file.
            BadFile: it is not a public identity.
            IntegrityError: it was changed.
        """
        try:
            public = cls.from_dict(read_object(path))
            public.check()
        except InvalidInput as error:
            raise BadFile(
                f"{path} is not a public identity",
                why=error.why,
                remedy="give the JSON file that `doorward keys new` wrote beside the key",
            ) from error
        return public


def tagged(purpose: str, message: bytes) -> bytes:
    """What is really signed: the message behind its purpose (domain separation).

    Raises:
        InvalidInput: the purpose is empty or not printable ASCII. Hence it cannot contain the byte
            that ends it.
    """
    if not purpose.isascii() or not purpose.isprintable() or not purpose:
        raise InvalidInput(f"the purpose {purpose!r} is not printable ASCII")
    return b"doorward/" + purpose.encode() + b"\0" + message


def fingerprint(ed25519: bytes) -> str:
    """Hex SHA-256 that names an Ed25519 public key."""
    return hashlib.sha256(b"doorward identity\0" + ed25519).hexdigest()
