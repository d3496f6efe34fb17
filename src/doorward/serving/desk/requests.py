"""From an HTTP request to a proven actor and a bounded body.

::

    @router.post("/v1/deals/{deal}/pay")
    def pay(deal: DealId, sent: Annotated[Sent, Depends(signed())]) -> dict: ...

The order is: rate limit, headers, signature, size, digest of the body, nonce. So a stranger costs
one lookup and one verification, a body is read only from a known sender, and a request is used up
only when everything about it is genuine.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from doorward.bundles.documents import parse_object
from doorward.bundles.identity import PublicIdentity
from doorward.errors import InvalidInput, MissingData
from doorward.serving.desk.desk import Actor, Desk
from doorward.serving.desk.limits import RateLimiter, copy_body
from doorward.serving.desk.refusals import Unauthenticated
from doorward.serving.desk.settings import DeskSettings
from doorward.serving.desk.signatures import Proof, read_proof

__all__ = ["Sent", "desk_of", "open_door", "registering", "signed", "uploaded"]


@dataclass(frozen=True)
class Sent:
    """A genuine request.

    Attributes:
        actor: who sent it.
        content: the JSON body; empty when there was none.
        upload: the file with the body, for uploads; removed after the request.
        sha256: digest of the body.
        size: its bytes.
    """

    actor: Actor
    content: dict[str, Any]
    upload: Path | None = None
    sha256: str = ""
    size: int = 0

    @property
    def file(self) -> Path:
        """The upload."""
        if self.upload is None:
            raise InvalidInput("the request has no body")
        return self.upload


def desk_of(request: Request) -> Desk:
    """The desk behind the application."""
    desk: Desk = request.app.state.desk
    return desk


def open_door(request: Request) -> None:
    """Let an unsigned request in, at the rate of its address."""
    limiter: RateLimiter = request.app.state.limiter
    limiter.take(f"address {request.client.host if request.client else 'unknown'}")


def signed() -> Callable[[Request], Any]:
    """A dependency that gives `Sent` with a JSON body (or none)."""

    async def read(request: Request) -> Sent:
        desk, proof = await _headers(request)
        public = await run_in_threadpool(_known, desk, proof)
        body = await _small_body(request, desk.settings.max_json_bytes)
        return await run_in_threadpool(_genuine, request, desk, proof, public, body)

    return read


async def registering(request: Request) -> Sent:
    """`Sent` whose body is the sender's own public identity, which need not be known yet."""
    open_door(request)
    desk, proof = await _headers(request)
    body = await _small_body(request, desk.settings.max_json_bytes)
    public = PublicIdentity.from_dict(parse_object(body, "the body"))
    await run_in_threadpool(public.check)
    return await run_in_threadpool(_genuine, request, desk, proof, public, body)


def uploaded(limit: Literal["max_trial_bytes", "max_key_bytes"] | None) -> Any:
    """A dependency that gives `Sent` with the body in a file.

    Args:
        limit: the setting that bounds it; None: by the path's ``artefact``.
    """

    async def read(request: Request) -> AsyncIterator[Sent]:
        desk, proof = await _headers(request)
        public = await run_in_threadpool(_known, desk, proof)
        _verify(request, desk, proof, public)
        artefact = request.path_params.get("artefact")
        name = limit or ("max_trial_bytes" if artefact == "trial" else "max_key_bytes")
        place = await run_in_threadpool(desk.custody.incoming)
        try:
            with place.open("wb") as stream:
                sha256, size = await copy_body(
                    request.stream(),
                    stream,
                    limit=_bound(desk.settings, name),
                    declared=request.headers.get("content-length"),
                )
            actor = await run_in_threadpool(_use, request, desk, proof, public, sha256)
            yield Sent(actor, {}, upload=place, sha256=sha256, size=size)
        finally:
            place.unlink(missing_ok=True)

    return read


async def _headers(request: Request) -> tuple[Desk, Proof]:
    try:
        return desk_of(request), read_proof(request.headers)
    except Unauthenticated:
        open_door(request)  # who does not sign is counted by address
        raise


def _known(desk: Desk, proof: Proof) -> PublicIdentity:
    try:
        return desk.identity_of(proof.key)
    except MissingData as error:
        raise Unauthenticated(error.what, remedy=error.remedy) from error


async def _small_body(request: Request, limit: int) -> bytes:
    with tempfile.SpooledTemporaryFile(max_size=limit + 1) as stream:
        declared = request.headers.get("content-length")
        await copy_body(request.stream(), stream, limit=limit, declared=declared)  # type: ignore[arg-type]
        stream.seek(0)
        return stream.read()


def _genuine(
    request: Request, desk: Desk, proof: Proof, public: PublicIdentity, body: bytes
) -> Sent:
    _verify(request, desk, proof, public)
    sha256 = hashlib.sha256(body).hexdigest()
    actor = _use(request, desk, proof, public, sha256)
    content = parse_object(body, "the body") if body else {}
    return Sent(actor, content, sha256=sha256, size=len(body))


def _verify(request: Request, desk: Desk, proof: Proof, public: PublicIdentity) -> None:
    proof.verify(public, desk.fingerprint, request.method, _path(request), now=desk.now())
    limiter: RateLimiter = request.app.state.limiter
    limiter.take(f"key {proof.key}")


def _use(request: Request, desk: Desk, proof: Proof, public: PublicIdentity, sha256: str) -> Actor:
    """The last checks; after them the nonce is used up."""
    if sha256 != proof.body:
        raise Unauthenticated(
            "the body is not the one that was signed", remedy="send it again, as it is"
        )
    desk.consume(proof)
    evidence = {"method": request.method, "path": _path(request), **proof.to_dict()}
    return Actor(public, evidence)


def _path(request: Request) -> str:
    """The path as the client sent and signed it, with the query."""
    raw: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string", b"")
    whole = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    return whole.decode("latin-1")


def _bound(settings: DeskSettings, name: str) -> int:
    bound: int = getattr(settings, name)
    return bound
