"""The files a gateway is made of, and whether they have changed.

    sources = Sources(model="net.onnx", honeypots=("guarded.onnx",), tenants="tenants.json")
    graphs, book = sources.graphs(), sources.book()

A gateway that is given its sources looks at them every few seconds: a model file that was replaced
answers from the next request on, and a tenant that was revoked is refused.
"""

from __future__ import annotations

import asyncio
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from doorward.serving.gateway.graphs import Graphs, onnx_of
from doorward.serving.gateway.tenants import TenantBook

if TYPE_CHECKING:
    from doorward.serving.gateway.gateway import Gateway

__all__ = ["Sources"]

_log = logging.getLogger("doorward.gateway")
Stamp = tuple[tuple[int, int] | None, ...]


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a gateway's models and tenants are.

    Args:
        model: an ``.onnx`` file or a bundle, which is exported.
        honeypots: likewise; the same model with other heads.
        tenants: the file of tenants; None for a gateway open to anybody.
        outputs: what the models give (see `Settings`).
        threads: of one inference.
        trust_factory: import and run the Python code that a bundle names.
    """

    model: str | os.PathLike[str]
    honeypots: tuple[str | os.PathLike[str], ...] = ()
    tenants: str | os.PathLike[str] | None = None
    outputs: str = "auto"
    threads: int = 0
    trust_factory: bool = False

    def graphs(self) -> Graphs:
        """Load the models (see `Graphs.load`)."""
        paths = [
            onnx_of(target, trust_factory=self.trust_factory)
            for target in (self.model, *self.honeypots)
        ]
        return Graphs.load(paths[0], paths[1:], outputs=self.outputs, threads=self.threads)

    def book(self) -> TenantBook:
        """Load the tenants (see `TenantBook.load`)."""
        return TenantBook() if self.tenants is None else TenantBook.load(self.tenants)

    def stamps(self) -> tuple[Stamp, Stamp]:
        """What changes when the models, or the tenants, are written again."""
        tenants = [] if self.tenants is None else [Path(self.tenants)]
        models = [Path(target) for target in (self.model, *self.honeypots)]
        return tuple(map(_stamp, models)), tuple(map(_stamp, tenants))

    async def follow(self, gateway: Gateway, *, every: float = 2.0) -> None:
        """Keep a gateway up to date with the files, until cancelled.

        Files that cannot be read, say because they are being written, leave it as it is, with a
        line in the log; they are tried again when they change again.

        Args:
            gateway: made of these sources.
            every: seconds between two looks.
        """
        models, tenants = self.stamps()
        while True:
            await asyncio.sleep(every)
            now = await asyncio.to_thread(self.stamps)
            try:
                if now[1] != tenants:
                    tenants = now[1]
                    gateway.tenants = await asyncio.to_thread(self.book)
                    _log.info("the tenants were read again")
                if now[0] != models:
                    models = now[0]
                    gateway.reload(await asyncio.to_thread(self.graphs))
            except Exception as error:  # a look that fails must not be the last one
                _log.error("not reloaded: %s", error)


def _stamp(path: Path) -> tuple[int, int] | None:
    inner = path / "model.json"  # of a bundle, which is replaced whole
    try:
        found = (inner if inner.is_file() else path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
