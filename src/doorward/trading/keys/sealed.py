"""A sealed key: opens for one buyer, with one preimage, on one model, under one licence.

::

    document = seal_unlock(opened, seller=ada, buyer=Receiver.of(bobs_document), preimage=preimage)
    opened = open_unlock(document, seller=ada.public, buyer=bob, trial=model, licence=text,
                         preimage=preimage)
    unlocked = opened.unlock(model)

The AES-256-GCM key comes by HKDF-SHA256 from an X25519 agreement between a fresh key and the
buyer's (`encryption`), from the preimage of the desk's hash lock, or from both. Everything that the
sealed key is bound to (digests of trial weights and licence, buyer, lock, commitments) is
authenticated with it, and the seller signs the whole. What does not fit fails closed: before the
decryption with a message that names it, and in the decryption if the name was forged.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.bundles import Identity, PublicIdentity, check_document, sign_document
from doorward.bundles.documents import canonical
from doorward.errors import BadFile, IntegrityError, InvalidInput, KeyRefused
from doorward.records import STRICT, Record
from doorward.trading.keys.encryption import Receiver, private_key
from doorward.trading.keys.opened import OpenedKey, licence_digest, weights_digest
from doorward.trading.protocol.terms import hash_lock

__all__ = ["SealedUnlock", "open_unlock", "seal_unlock"]

_PURPOSE, _INFO = "trade-sealed-key", b"doorward trade key 1"
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SealedUnlock(Record):
    """What the seller signs.

    Attributes:
        trial: digest of the trial's weights.
        licence: digest of the licence's text.
        buyer: fingerprint of whom it is sealed for; None where only the preimage opens it.
        receiver: the buyer's X25519 key, as hex; None likewise.
        ephemeral: the X25519 key of this sealing, as hex; None likewise.
        lock: SHA-256 of the preimage that is needed, or None.
        commitments: to masks, trigger and target, as shipped with the trial.
        nonce: of AES-GCM.
        ciphertext: the opened key, base64.
    """

    format: Literal["doorward-sealed-unlock"] = "doorward-sealed-unlock"
    version: Literal[1] = 1
    trial: Digest
    licence: Digest
    buyer: Digest | None
    receiver: Digest | None
    ephemeral: Digest | None
    lock: Digest | None
    commitments: Annotated[dict[str, Digest], Field(min_length=3, max_length=3)]
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]
    ciphertext: str

    def associated(self) -> bytes:
        """The bytes that are authenticated beside the key: all fields but the ciphertext."""
        content = self.to_dict()
        del content["ciphertext"]
        return canonical(content, "the sealed key")


def seal_unlock(
    opened: OpenedKey,
    *,
    seller: Identity,
    buyer: Receiver | None = None,
    preimage: bytes | None = None,
) -> dict[str, Any]:
    """Seal a key and sign it.

    Args:
        opened: the key.
        seller: who signs.
        buyer: for whom; None for whoever gets the preimage.
        preimage: 32 bytes that are needed to open it; None for none.

    Returns:
        A signed document (see `doorward.bundles.sign_document`).

    Raises:
        InvalidInput: neither buyer nor preimage, or the key was made for another buyer.
    """
    if buyer is None and preimage is None:
        raise InvalidInput(
            "a key for nobody in particular and without a hash lock is open to all",
            remedy="give a buyer, a preimage, or both",
        )
    fingerprint = buyer.identity.fingerprint if buyer else None
    if opened.buyer not in (None, fingerprint):
        raise InvalidInput(
            "this key carries the mark of another buyer",
            why=f"it was made for {str(opened.buyer)[:16]}",
            remedy="make a key for this one",
        )
    shared, ephemeral = b"", None
    if buyer is not None:
        fresh = X25519PrivateKey.generate()
        ephemeral = fresh.public_key().public_bytes_raw().hex()
        shared = fresh.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(buyer.x25519)))
    draft = SealedUnlock(
        trial=opened.trial,
        licence=opened.licence,
        buyer=fingerprint,
        receiver=buyer.x25519 if buyer else None,
        ephemeral=ephemeral,
        lock=hash_lock(preimage) if preimage is not None else None,
        commitments=opened.commitments(),
        nonce=os.urandom(12).hex(),
        ciphertext="",
    )
    associated = draft.associated()
    cipher = AESGCM(_derived(shared, preimage, associated))
    hidden = cipher.encrypt(bytes.fromhex(draft.nonce), opened.to_bytes(), associated)
    content = {**draft.to_dict(), "ciphertext": base64.b64encode(hidden).decode()}
    return sign_document(content, seller, purpose=_PURPOSE)


def open_unlock(
    document: Mapping[str, Any],
    *,
    seller: PublicIdentity,
    trial: nn.Module,
    licence: str,
    buyer: Identity | None = None,
    preimage: bytes | None = None,
    commitments: Mapping[str, str] | None = None,
) -> OpenedKey:
    """Open a sealed key; nothing comes out unless everything fits.

    Args:
        document: what `seal_unlock` made, or anything a stranger sent.
        seller: who must have signed it.
        trial: the model as it was delivered.
        licence: the text that was agreed on.
        buyer: your identity, if it is sealed for one.
        preimage: what was released on payment, if there is a hash lock.
        commitments: those that came with the trial, which the key must open.

    Returns:
        The opened key.

    Raises:
        BadFile: it is no sealed key.
        IntegrityError: the seller did not sign it, it was changed, or it opens to another key than
            was committed to.
        KeyRefused: it is for another model, licence or buyer, or the preimage is not the right one.
    """
    try:
        sealed = SealedUnlock.from_dict(check_document(document, seller, purpose=_PURPOSE))
        hidden = base64.b64decode(sealed.ciphertext, validate=True)
    except (InvalidInput, binascii.Error) as error:
        raise BadFile(
            "this is not a sealed key", why=str(error), remedy="get it again from the seller"
        ) from error
    _check_model(sealed, trial, licence)
    shared = _agreement(sealed, buyer)
    if sealed.lock is not None:
        if preimage is None:
            raise KeyRefused(
                "this key is under a hash lock",
                remedy="give the preimage, which is released on payment",
            )
        if len(preimage) != 32 or not hmac.compare_digest(hash_lock(preimage), sealed.lock):
            raise KeyRefused(
                "the preimage does not open the hash lock of this key",
                remedy="give the one that was released for this deal",
            )
    associated = sealed.associated()
    secret = preimage if sealed.lock is not None else None
    try:
        cipher = AESGCM(_derived(shared, secret, associated))
        opened = OpenedKey.from_bytes(
            cipher.decrypt(bytes.fromhex(sealed.nonce), hidden, associated)
        )
    except InvalidTag:
        raise KeyRefused(
            "the sealed key does not open",
            why="it was changed after it was sealed, or sealed for a key that is not yours",
            remedy="get it again from the seller; if you have paid, dispute the deal",
        ) from None
    _check_opened(sealed, opened, commitments)
    return opened


def _check_model(sealed: SealedUnlock, trial: nn.Module, licence: str) -> None:
    found = weights_digest(trial)
    if found != sealed.trial:
        raise KeyRefused(
            "this key belongs to another model",
            why=f"it was sealed for weights {sealed.trial[:16]}, these are {found[:16]}",
            remedy="give the trial exactly as it was delivered, before any fine-tuning",
        )
    if licence_digest(licence) != sealed.licence:
        raise KeyRefused(
            "this key was sealed under another licence",
            why="the digest of the text differs",
            remedy="give the licence that came with the trial, unchanged",
        )


def _agreement(sealed: SealedUnlock, buyer: Identity | None) -> bytes:
    """The secret that buyer and sealing share; empty where it is sealed for nobody."""
    if sealed.buyer is None or sealed.ephemeral is None or sealed.receiver is None:
        return b""
    if buyer is None:
        raise KeyRefused(
            "this key is sealed for a buyer",
            why=f"for the identity {sealed.buyer[:16]}",
            remedy="give your identity",
        )
    own = private_key(buyer)
    known = own.public_key().public_bytes_raw().hex()
    if buyer.public.fingerprint != sealed.buyer or known != sealed.receiver:
        raise KeyRefused(
            "this key is sealed for somebody else",
            why=f"for the identity {sealed.buyer[:16]}; you are {buyer.public.name} "
            f"({buyer.public.fingerprint[:16]})",
            remedy="use the identity that you bought it with",
        )
    try:
        return own.exchange(X25519PublicKey.from_public_bytes(bytes.fromhex(sealed.ephemeral)))
    except ValueError as error:  # a point of small order: nobody's honest key
        raise KeyRefused("the sealed key does not open", why=str(error)) from error


def _check_opened(
    sealed: SealedUnlock, opened: OpenedKey, commitments: Mapping[str, str] | None
) -> None:
    same = (opened.trial, opened.licence) == (sealed.trial, sealed.licence)
    if not same or opened.buyer not in (None, sealed.buyer):
        raise IntegrityError(
            "the key inside was made for something else than its seal says",
            remedy="do not accept it; dispute the deal",
        )
    opened.check_commitments(sealed.commitments)
    if commitments is not None:
        opened.check_commitments(commitments)


def _derived(shared: bytes, preimage: bytes | None, associated: bytes) -> bytes:
    material = b"".join(len(part).to_bytes(2, "big") + part for part in (shared, preimage or b""))
    digest = hashes.Hash(hashes.SHA256())
    digest.update(associated)
    kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=digest.finalize(), info=_INFO)
    return kdf.derive(material)
