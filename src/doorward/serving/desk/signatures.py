"""Requests that prove who sent them, to whom, and once only.

>>> from doorward.bundles.identity import Identity
>>> bob, desk = Identity.new("Bob"), "d" * 64
>>> headers = sign_request(bob, desk, "POST", "/v1/deals", b"{}", now=1000)
>>> proof = read_proof(headers)
>>> proof.verify(bob.public, desk, "POST", "/v1/deals", now=1060)
>>> proof.verify(bob.public, desk, "POST", "/v1/deals", now=9000)
Traceback (most recent call last):
doorward.serving.desk.refusals.Unauthenticated: the request was signed at 1000, and it is 9000: ...

An Ed25519 signature covers the desk's fingerprint, method, path with query, SHA-256 of the body,
a random nonce and the time. A request for one desk, path or body fits no other; a nonce is taken
once within the window of time, and outside the window nothing is taken.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.identity import Identity, PublicIdentity
from doorward.errors import IntegrityError, InvalidInput
from doorward.files import canonical_json
from doorward.records import STRICT, Record
from doorward.serving.desk.refusals import Unauthenticated
from doorward.trading.protocol.terms import Digest, Seconds

__all__ = ["HEADERS", "WINDOW_SECONDS", "Proof", "read_proof", "sign_request"]

WINDOW_SECONDS = 300
"""How far the clocks of client and desk may be apart, and how long nonces are remembered."""

_PURPOSE = "desk-request"

HEADERS = {
    "key": "Doorward-Key",
    "time": "Doorward-Time",
    "nonce": "Doorward-Nonce",
    "body": "Doorward-Digest",
    "signature": "Doorward-Signature",
}
"""Field of `Proof` -> HTTP header."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Proof(Record):
    """What a signed request carries in its headers.

    Attributes:
        key: fingerprint of the sender.
        time: when it was signed.
        nonce: 32 hex digits, random.
        body: SHA-256 of the body (of nothing, when there is none).
        signature: Ed25519, hex.
    """

    key: Digest
    time: Seconds
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    body: Digest
    signature: Annotated[str, Field(pattern=r"^[0-9a-f]{128}$")]

    def message(self, desk: str, method: str, path: str) -> bytes:
        """The bytes under the signature."""
        content = {name: getattr(self, name) for name in ("key", "time", "nonce", "body")}
        return canonical_json({**content, "desk": desk, "method": method.upper(), "path": path})

    def verify(
        self, public: PublicIdentity, desk: str, method: str, path: str, *, now: int
    ) -> None:
        """Check time and signature; the nonce and the body are checked by who sees them.

        Raises:
            Unauthenticated: the request is too old, or was not signed like this by `public`.
        """
        if abs(now - self.time) > WINDOW_SECONDS:
            raise Unauthenticated(
                f"the request was signed at {self.time}, and it is {now}",
                why=f"more than {WINDOW_SECONDS} seconds apart",
                remedy="set the clock, and sign it again",
            )
        try:
            if public.fingerprint != self.key:
                raise IntegrityError("another key")
            signature = bytes.fromhex(self.signature)
            public.verify(self.message(desk, method, path), signature, purpose=_PURPOSE)
        except IntegrityError as error:
            raise Unauthenticated(
                "the signature of the request does not fit",
                why="it covers the desk, method, path, body, nonce and time, and one of them "
                "or the key is another",
            ) from error


def sign_request(
    identity: Identity, desk: str, method: str, path: str, body: bytes | str, *, now: int
) -> dict[str, str]:
    """The headers that prove a request.

    Args:
        identity: the sender.
        desk: fingerprint of the desk.
        method: GET, POST, PUT.
        path: as it is sent, with the query.
        body: the body, or the hex SHA-256 of one that is streamed.
        now: seconds since 1970.
    """
    digest = body if isinstance(body, str) else hashlib.sha256(body).hexdigest()
    draft = Proof(
        key=identity.public.fingerprint,
        time=now,
        nonce=secrets.token_hex(16),
        body=digest,
        signature="0" * 128,
    )
    signature = identity.sign(draft.message(desk, method, path), purpose=_PURPOSE)
    fields = {**draft.to_dict(), "signature": signature.hex()}
    return {header: str(fields[name]) for name, header in HEADERS.items()}


def read_proof(headers: Mapping[str, str]) -> Proof:
    """The proof in the headers of a request.

    Raises:
        Unauthenticated: a header is missing or malformed.
    """
    lowered = {name.lower(): value for name, value in headers.items()}
    fields: dict[str, str | int] = {}
    for name, header in HEADERS.items():
        value = lowered.get(header.lower())
        if value is None:
            raise Unauthenticated(
                f"the request has no header {header}", remedy="use the client of Doorward"
            )
        fields[name] = value
    time = str(fields["time"])
    if not (time.isascii() and time.isdigit() and len(time) <= 13):
        raise Unauthenticated(f"the header {HEADERS['time']} is not a number of seconds")
    try:
        return Proof.from_dict({**fields, "time": int(time)})
    except InvalidInput as error:
        raise Unauthenticated("the headers of the request are malformed") from error
