"""The desk as an ASGI application.

>>> import tempfile
>>> from doorward.bundles.identity import Identity
>>> from doorward.randomness import Secret
>>> from doorward.serving.database import Database
>>> from doorward.serving.desk import Custody, Desk
>>> custody = Custody(tempfile.mkdtemp(), Secret.new())
>>> desk = Desk(Database("sqlite://"), Identity.new("A desk"), custody)
>>> create_app(desk).title
'A desk'

Between requests a thread lets deadlines take effect and rules on disputes (`Desk.sweep`).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import doorward
from doorward.errors import DoorwardError, InvalidInput
from doorward.records import why_invalid
from doorward.serving.desk import pages, routes
from doorward.serving.desk.desk import Desk
from doorward.serving.desk.limits import RateLimiter
from doorward.serving.desk.refusals import TooMany, error_body, status_of

__all__ = ["create_app"]

_LOG = logging.getLogger("doorward.desk")

_SAFE = {
    "Content-Security-Policy": "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def create_app(desk: Desk, *, sweep_seconds: float | None = 15.0) -> FastAPI:
    """The application around a desk.

    Args:
        desk: what it serves.
        sweep_seconds: time between sweeps; None: the caller sweeps.
    """

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        stop = threading.Event()
        sweeper = threading.Thread(target=_sweep, args=(desk, stop, sweep_seconds), daemon=True)
        if sweep_seconds is not None:
            sweeper.start()
        yield
        stop.set()
        if sweep_seconds is not None:
            sweeper.join(timeout=5)

    app = FastAPI(
        title=desk.identity.public.name,
        version=doorward.__version__,
        description="A Doorward trading desk. Requests are signed; see doorward.serving.desk.",
        lifespan=running,
        redoc_url=None,
        docs_url=None,  # its page loads scripts from elsewhere; /openapi.json is there
    )
    app.state.desk = desk
    app.state.limiter = RateLimiter(desk.settings.requests_per_minute)
    app.include_router(routes.router)
    app.include_router(pages.router)
    app.add_exception_handler(DoorwardError, _refused)
    app.add_exception_handler(ValidationError, _invalid)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(_SafeHeaders)
    return app


def _sweep(desk: Desk, stop: threading.Event, seconds: float | None) -> None:
    while not stop.wait(seconds):
        try:
            desk.sweep()
        except Exception:  # the thread must outlive whatever one sweep meets
            _LOG.exception("the sweep failed; the next one follows")


class _SafeHeaders:
    """Sets the headers of `_SAFE` on every answer, without touching the bodies that stream by."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sending if scope["type"] == "http" else send)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, DoorwardError):  # cannot be: registered for this class
        raise error
    status = status_of(error)
    if status == 500:
        _LOG.error("a request failed", exc_info=error)
        error = DoorwardError("the desk failed", remedy="tell its operator")
    headers = {"Retry-After": str(error.wait)} if isinstance(error, TooMany) else None
    return JSONResponse(error_body(error), status, headers=headers)


async def _invalid(request: Request, error: Exception) -> JSONResponse:
    why = why_invalid(error) if isinstance(error, ValidationError) else str(error)
    return await _refused(request, InvalidInput("the body is not valid", why=why))


async def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    problems = error.errors() if isinstance(error, RequestValidationError) else []
    why = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in problems)
    return await _refused(request, InvalidInput("the request is not valid", why=why))


async def _http(_: Request, error: Exception) -> JSONResponse:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = getattr(error, "headers", None)
    what = str(getattr(error, "detail", "")) or "no"
    return JSONResponse(error_body(DoorwardError(what)), status, headers=headers)


async def _gone(_: Request, __: Exception) -> JSONResponse:
    """The client hung up in the middle of its body; nobody reads this, and nothing happened."""
    return JSONResponse(error_body(DoorwardError("the request was not finished")), 400)
