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

import os
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from doorward.bundles.public import CERTIFICATE, PublicIdentity, fingerprint, tagged
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import IntegrityError, InvalidInput, KeyRefused
from doorward.randomness import Secret

__all__ = ["Identity", "PublicIdentity"]

_PURPOSE = "identity"


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
                "fingerprint": fingerprint(raw),
                "ed25519": raw.hex(),
                "p256": _point(second).hex(),
                "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
                "certificate": "0" * 128,
            }
        )
        certificate = first.sign(tagged(CERTIFICATE, draft.certified()))
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
        if purpose == CERTIFICATE:
            raise InvalidInput(f"the purpose {purpose!r} is reserved", remedy="choose another")
        return self._ed25519.sign(tagged(purpose, message))

    def derive(self, info: str) -> Secret:
        """A secret for the purpose `info`, the same each time: HKDF-SHA256 of the Ed25519 key.

        For keys of another kind that must belong to this identity and need no file of their own.
        """
        return Secret(self._ed25519.private_bytes_raw()).derive(f"doorward identity/{info}")

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


def _raw(key: Ed25519PrivateKey) -> bytes:
    return key.public_key().public_bytes_raw()


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
