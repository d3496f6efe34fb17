"""For whom a key is sealed: an X25519 key that belongs to a signing identity.

>>> from doorward.bundles import Identity
>>> bob = Identity.new("Bob")
>>> document = publish(bob)                 # to be sent to the seller
>>> receiver = Receiver.of(document)
>>> own = private_key(bob).public_key().public_bytes_raw()
>>> receiver.identity.name, receiver.x25519 == own.hex()
('Bob', True)

Identities sign (Ed25519, P-256) and do not encrypt; one key for both would tie the security of each
to the other. The X25519 key is derived from the identity's private key by HKDF, so that there is no
further file to keep, and bound to the identity by a document that it signs. Whoever checks the
identity's fingerprint over another channel has checked the encryption key, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles import Identity, PublicIdentity, check_document, sign_document
from doorward.errors import BadFile, InvalidInput
from doorward.records import STRICT, Record

__all__ = ["Receiver", "private_key", "publish"]

_PURPOSE = "trade-encryption-key"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Published(Record):
    """What the document says."""

    algorithm: Literal["x25519"] = "x25519"
    x25519: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Receiver(NamedTuple):
    """A public identity and the encryption key that it has signed.

    Args:
        identity: who it is.
        x25519: public key, 32 bytes as hex.
    """

    identity: PublicIdentity
    x25519: str

    @classmethod
    def of(cls, document: Mapping[str, Any], expected: PublicIdentity | None = None) -> Receiver:
        """The receiver that a document of `publish` names.

        Args:
            document: as it was received.
            expected: who it must be; None takes the identity that stands in the document, whose
                fingerprint must then be compared by other means.

        Raises:
            BadFile: it is no such document.
            IntegrityError: the signature does not fit, or another identity made it.
        """
        try:
            signer = expected or PublicIdentity.from_dict(document["signer"])
            published = _Published.from_dict(check_document(document, signer, purpose=_PURPOSE))
        except (InvalidInput, KeyError, TypeError, ValueError) as error:
            raise BadFile(
                "this is not a published encryption key",
                why=str(error),
                remedy="ask the buyer for the file that `doorward trade receiver` writes",
            ) from error
        return cls(signer, published.x25519)


def publish(identity: Identity) -> dict[str, Any]:
    """The public encryption key of an identity, signed by it."""
    public = private_key(identity).public_key().public_bytes_raw()
    return sign_document(_Published(x25519=public.hex()).to_dict(), identity, purpose=_PURPOSE)


def private_key(identity: Identity) -> X25519PrivateKey:
    """The private encryption key that belongs to an identity."""
    return X25519PrivateKey.from_private_bytes(identity.derive("x25519 encryption").reveal())
