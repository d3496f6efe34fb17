"""Who signs: an owner's two signing keys, and the public half that others check with.

>>> ada = Identity.new("Ada")
>>> signature = ada.sign(b"I was here")
>>> ada.public.verify(b"I was here", signature)
>>> ada.public.verify(b"I was there", signature)
Traceback (most recent call last):
doorward.errors.IntegrityError: the signature does not fit: ...

Claims and evidence are signed with Ed25519 (RFC 8032). The OpenSSF model-signing format knows
only NIST curves, so an identity also holds a P-256 key for model folders; the Ed25519 key
certifies it, and the fingerprint of the Ed25519 key names the whole identity.
"""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical, read_object
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import BadFile, IntegrityError, InvalidInput, KeyRefused
from doorward.files import write_json, write_text
from doorward.randomness import Secret
from doorward.records import STRICT, Record

__all__ = ["Identity", "PublicIdentity"]

_PURPOSE = "identity"
_CERTIFICATE = "p256-certificate"


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
    version: Literal[1] = 1
    name: Annotated[str, Field(min_length=1, max_length=200)]
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ed25519: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    p256: Annotated[str, Field(pattern=r"^0[23][0-9a-f]{64}$")]
    created: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    certificate: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def verify(self, message: bytes, signature: bytes, *, purpose: str = "message") -> None:
        """Check an Ed25519 signature made by `Identity.sign` with the same `purpose`.

        Raises:
            IntegrityError: it does not fit the message, the purpose or this identity.
        """
        try:
            key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.ed25519))
            key.verify(signature, _tagged(purpose, message))
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
        if self.fingerprint != _fingerprint(bytes.fromhex(self.ed25519)):
            raise IntegrityError(
                f"the public identity of {self.name} does not fit its fingerprint",
                remedy="ask the owner for the original file",
            )
        self.verify(self.certified(), bytes.fromhex(self.certificate), purpose=_CERTIFICATE)
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


class Identity:
    """An owner's signing keys. Make one with `new`, store it with `seal`, get it with `open`.

    Never pickled, never printed: its `repr` shows the name and fingerprint only.
    """

    __slots__ = ("_ed25519", "_p256", "public")

    def __init__(
        self, ed25519: Ed25519PrivateKey, p256: ec.EllipticCurvePrivateKey, public: PublicIdentity
    ) -> None:
        self._ed25519, self._p256, self.public = ed25519, p256, public

    @classmethod
    def new(cls, name: str) -> Identity:
        """Draw both keys from the operating system and certify the second with the first.

        Raises:
            InvalidInput: the name is empty, too long or not text.
        """
        first, second = Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1())
        raw = _raw(first)
        draft = PublicIdentity.from_dict(
            {
                "name": name,
                "fingerprint": _fingerprint(raw),
                "ed25519": raw.hex(),
                "p256": _point(second).hex(),
                "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "certificate": "0" * 128,
            }
        )
        certificate = first.sign(_tagged(_CERTIFICATE, draft.certified()))
        fields = {**draft.to_dict(), "certificate": certificate.hex()}
        return cls(first, second, PublicIdentity.from_dict(fields))

    def sign(self, message: bytes, *, purpose: str = "message") -> bytes:
        """Sign with Ed25519.

        Args:
            message: any bytes.
            purpose: what the signature is for; one made for one purpose fits no other.

        Returns:
            64 bytes.
        """
        if purpose == _CERTIFICATE:
            raise InvalidInput(f"the purpose {purpose!r} is reserved", remedy="choose another")
        return self._ed25519.sign(_tagged(purpose, message))

    def p256_pem(self, password: bytes) -> bytes:
        """The P-256 private key as PEM, encrypted with `password`: for external signing tools."""
        return self._p256.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(password),
        )

    def seal(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        log2_n: int = 17,
        overwrite: bool = False,
    ) -> None:
        """Write both private keys to `path`, sealed with `passphrase` (see `sealing.seal_file`)."""
        scalar = self._p256.private_numbers().private_value.to_bytes(32, "big")
        secret = Secret(self._ed25519.private_bytes_raw() + scalar)
        seal_file(
            path,
            secret,
            passphrase,
            purpose=_PURPOSE,
            public=self.public.to_dict(),
            log2_n=log2_n,
            overwrite=overwrite,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str], passphrase: str) -> Identity:
        """Read an identity that `seal` wrote.

        Raises:
            MissingData: there is no such file.
            KeyRefused: wrong passphrase, or the file is damaged or not an identity.
        """
        secret, shown = unseal_file(path, passphrase, purpose=_PURPOSE)
        try:
            public = PublicIdentity.from_dict(shown)
            public.check()
            first = Ed25519PrivateKey.from_private_bytes(secret[:32])
            second = ec.derive_private_key(int.from_bytes(secret[32:], "big"), ec.SECP256R1())
            fits = _raw(first).hex() == public.ed25519 and _point(second).hex() == public.p256
        except (InvalidInput, IntegrityError, ValueError):
            fits = False
        if not fits:
            raise KeyRefused(
                f"{path} holds keys that do not fit its public part", remedy="use your backup"
            ) from None
        return cls(first, second, public)

    def __repr__(self) -> str:
        return f"Identity({self.public.name!r}, {self.public.fingerprint[:16]})"

    def __reduce__(self) -> Any:
        raise TypeError("identities are not pickled; seal them with Identity.seal")


def _tagged(purpose: str, message: bytes) -> bytes:
    """Domain separation: a purpose cannot contain the byte that ends it."""
    if not purpose.isascii() or not purpose.isprintable() or not purpose:
        raise InvalidInput(f"the purpose {purpose!r} is not printable ASCII")
    return b"doorward/" + purpose.encode() + b"\0" + message


def _fingerprint(ed25519: bytes) -> str:
    return hashlib.sha256(b"doorward identity\0" + ed25519).hexdigest()


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
