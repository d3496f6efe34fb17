"""The gateway's HTTP: the Open Inference Protocol, health, metrics, and errors as JSON.

    app = build(gateway)        # an ASGI application; see `create_app`

Health and metadata of the server are open; whatever concerns the model needs a key where the
gateway has tenants.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from doorward import __version__
from doorward.serving.gateway.documents import INFER, READS
from doorward.serving.gateway.gateway import Gateway
from doorward.serving.gateway.metrics import CONTENT_TYPE
from doorward.serving.gateway.protocol import Request as Asking
from doorward.serving.gateway.protocol import read_request, unpacked
from doorward.serving.gateway.refusals import Refusal
from doorward.serving.gateway.tenants import Tenant

__all__ = ["build"]

_LARGE = 2**17  # bytes from which on a body is read in a thread, beside the event loop
_log = logging.getLogger("doorward.gateway")


def build(gateway: Gateway) -> FastAPI:
    """The application around a gateway, which it starts and stops."""

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        async with gateway:
            yield

    app = FastAPI(
        title="Doorward gateway",
        version=__version__,
        description="Open Inference Protocol (KServe v2), JSON and binary tensors.",
        lifespan=running,
        docs_url=None,  # these two pages load scripts from elsewhere
        redoc_url=None,
    )
    app.state.gateway = gateway
    _Handlers(gateway).add_to(app)
    return app


class _Handlers:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def add_to(self, app: FastAPI) -> None:
        """Register all routes and error handlers."""
        model = "/v2/models/{name}"
        for path in (model, model + "/versions/{version}"):
            app.get(path, tags=["model"], responses=READS)(self.metadata)
            app.get(path + "/ready", tags=["model"], responses=READS)(self.model_ready)
            app.post(path + "/infer", tags=["model"], openapi_extra=INFER, responses=READS)(
                self.infer
            )
        app.get("/v2", tags=["server"])(self.server)
        app.get("/v2/health/live", tags=["server"])(self.live)
        app.get("/v2/health/ready", tags=["server"])(self.ready)
        app.get("/metrics", tags=["server"], response_class=Response)(self.metrics)
        app.add_exception_handler(Refusal, _refused)
        app.add_exception_handler(HTTPException, _not_found)
        app.add_exception_handler(Exception, _failed)

    async def server(self) -> dict[str, Any]:
        """Name, version and extensions of the server."""
        return {"name": "doorward", "version": __version__, "extensions": ["binary_tensor_data"]}

    async def live(self) -> dict[str, bool]:
        """Whether the process answers."""
        return {"live": True}

    async def ready(self) -> JSONResponse:
        """Whether requests are taken: not before the start is over, nor once it shuts down."""
        ready = self.gateway.ready
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def metadata(self, request: Request, name: str, version: str = "") -> dict[str, Any]:
        """Inputs and outputs of the model."""
        tenant = self._admit(request, name, version)
        return self.gateway.metadata(tenant)

    async def model_ready(self, request: Request, name: str, version: str = "") -> JSONResponse:
        """Whether the model takes requests."""
        self._admit(request, name, version)
        ready = self.gateway.ready
        return JSONResponse({"name": name, "ready": ready}, 200 if ready else 503)

    async def infer(self, request: Request, name: str, version: str = "") -> Response:
        """Answer images."""
        tenant = self._admit(request, name, version)
        body = await self._body(request)
        started = time.perf_counter()
        length = _header_length(request.headers.get("inference-header-content-length"))
        encoding = request.headers.get("content-encoding")
        if len(body) > _LARGE or encoding:
            asking = await asyncio.to_thread(self._read, body, encoding, length)
        else:
            asking = self._read(body, encoding, length)
        reply = await self.gateway.infer(tenant, asking)
        self.gateway.metrics.requests.labels("200").inc()
        self.gateway.metrics.seconds.observe(time.perf_counter() - started)
        return Response(reply.body, media_type=reply.media_type, headers=reply.headers)

    async def metrics(self, request: Request) -> Response:
        """Prometheus metrics; those of single tenants with an operator's key."""
        gateway = self.gateway
        tenant = gateway.tenants.find(_key(request)) if gateway.tenants.tenants else None
        shown = gateway.metrics.render(operator=tenant is not None and tenant.operator)
        return Response(shown, media_type=CONTENT_TYPE)

    def _admit(self, request: Request, name: str, version: str) -> Tenant:
        tenant = self.gateway.tenant(_key(request))
        if name != self.gateway.settings.model:
            raise Refusal(
                f"there is no model {name[:80]!r}", why=f"there is {self.gateway.settings.model!r}",
                status=404,
            )  # fmt: skip
        if version not in ("", self.gateway.graphs.version):
            raise Refusal(
                f"there is no version {version[:80]!r}",
                why=f"there is {self.gateway.graphs.version!r}",
                remedy="leave the version out",
                status=404,
            )
        return tenant

    def _read(self, body: bytes, encoding: str | None, length: int | None) -> Asking:
        content = unpacked(body, encoding, limit=self.gateway.settings.max_body)
        return read_request(content, header_length=length)

    async def _body(self, request: Request) -> bytes:
        """The body, up to the limits of size and time."""
        limit = self.gateway.settings.max_body
        declared = request.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
            raise _too_large(limit)
        body = bytearray()
        try:
            async with asyncio.timeout(self.gateway.settings.receive_limit):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > limit:
                        raise _too_large(limit)
        except TimeoutError:
            raise Refusal(
                "the body did not arrive",
                why=f"{self.gateway.settings.receive_limit:g} seconds are waited",
                status=408,
            ) from None
        return bytes(body)


def _key(request: Request) -> str | None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key.strip():
        return key.strip()
    return request.headers.get("x-api-key")


def _header_length(header: str | None) -> int | None:
    if header is None:
        return None
    if not (header.isascii() and header.isdigit() and len(header) < 12):
        raise Refusal("Inference-Header-Content-Length is no number of bytes")
    return int(header)


def _too_large(limit: int) -> Refusal:
    return Refusal(
        "the body is too large", why=f"{limit} bytes are read", remedy="send fewer images",
        status=413,
    )  # fmt: skip


async def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, Refusal)  # noqa: S101 - registered for it alone
    return _error(request, error.status, str(error), error.headers)


async def _not_found(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for it alone
    return _error(request, error.status_code, str(error.detail), error.headers)


async def _failed(request: Request, error: Exception) -> JSONResponse:
    _log.error("a request failed", exc_info=error)
    return _error(request, 500, "the gateway failed; the operator finds why in its log")


def _error(request: Request, status: int, message: str, headers: Any = None) -> JSONResponse:
    gateway: Gateway = request.app.state.gateway
    gateway.metrics.requests.labels(str(status)).inc()
    printable = "".join(sign if sign.isprintable() else " " for sign in message)
    return JSONResponse({"error": printable}, status, headers)
