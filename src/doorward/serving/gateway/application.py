"""The gateway as an ASGI application, and its own server.

    app = create_app(gateway)                                     # for uvicorn, hypercorn, tests
    serve(gateway, sources=sources, host="127.0.0.1", port=8000)  # until SIGTERM or Ctrl-C

TLS is left to the proxy in front.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from doorward.errors import InvalidInput, MissingDependency
from doorward.serving.gateway.gateway import Gateway
from doorward.serving.gateway.sources import Sources

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["create_app", "serve"]

_MOST_CONNECTIONS = 2048


def create_app(gateway: Gateway) -> FastAPI:
    """An ASGI application around a gateway, which starts and stops with it.

    Raises:
        MissingDependency: FastAPI is not installed.
    """
    try:
        from doorward.serving.gateway.routes import build
    except ImportError as error:
        raise MissingDependency.of("fastapi", "serve", "answer over HTTP") from error
    return build(gateway)


def serve(
    gateway: Gateway,
    *,
    sources: Sources | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    drain: float = 0.0,
    patience: float = 30.0,
    reload_every: float = 2.0,
    started: Callable[[int], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what was accepted, and return.

    Args:
        gateway: what answers.
        sources: followed for changes, if given.
        host: address to listen at; ``0.0.0.0`` for all. TLS is the business of a proxy.
        port: 0 for any free one.
        drain: seconds between a signal and the end, in which the gateway says it is not ready but
            still answers, for load balancers to notice.
        patience: seconds that open requests get to finish.
        reload_every: seconds between two looks at `sources`.
        started: called with the port once requests are taken.

    Raises:
        MissingDependency: uvicorn is not installed.
        InvalidInput: the address is taken, or none of this machine's.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependency.of("uvicorn", "serve", "answer over HTTP") from error
    listener = _listen(host, port)
    config = uvicorn.Config(
        create_app(gateway),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=max(1, round(patience)),
        limit_concurrency=_MOST_CONNECTIONS,
    )
    server = uvicorn.Server(config)
    asyncio.run(_run(server, listener, gateway, sources, drain, reload_every, started))


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_MOST_CONNECTIONS)
    except OSError as error:
        raise InvalidInput(
            f"{host} port {port} cannot be listened at",
            why=error.strerror or str(error),
            remedy="choose another --port or --host",
        ) from error


async def _run(
    server: Any,
    listener: socket.socket,
    gateway: Gateway,
    sources: Sources | None,
    drain: float,
    reload_every: float,
    started: Callable[[int], None] | None,
) -> None:
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    def leave(signal: int, frame: Any) -> None:
        # Uvicorn's own handler would send the signal again at the end, and the process would
        # die of it instead of returning.
        server.force_exit = server.should_exit  # asked again, it leaves without finishing
        first, gateway.ready = gateway.ready, False
        loop.call_soon_threadsafe(loop.call_later, drain if first else 0, stop)

    server.handle_exit = leave
    tasks = [asyncio.create_task(_announce(server, started))]
    if sources is not None:
        tasks.append(asyncio.create_task(sources.follow(gateway, every=reload_every)))
    try:
        await server.serve(sockets=[listener])
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)


async def _announce(server: Any, started: Callable[[int], None] | None) -> None:
    while not server.started:
        await asyncio.sleep(0.02)
    if started is not None:
        started(server.servers[0].sockets[0].getsockname()[1])
