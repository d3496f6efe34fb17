"""Writing answers down before they are sent, many in one transaction.

    async with Recorder(log, Watches(...)) as recorder:
        outcome = await recorder.record(answered)      # returns once the row is on the disk

While one group is being committed the next one gathers, so the disk bounds the time of an answer,
not the number of answers per second.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doorward.errors import DoorwardError, StorageFailed
from doorward.randomness import Secret
from doorward.serving.gateway.evidence import Entry, EvidenceLog, Move, Outcome
from doorward.serving.gateway.evidence.rows import HASH_BYTES
from doorward.serving.gateway.monitors import Monitors, Reading, Reference, Watch
from doorward.serving.gateway.tenants import Tenant

__all__ = ["Answered", "Recorder", "Watches"]

Floats = NDArray[np.float32]
_MOST_WATCHES = 1000
_log = logging.getLogger("doorward.gateway")


@dataclass(frozen=True)
class Answered:
    """An answer that waits for its row.

    Args:
        tenant: who asked.
        stage: at which the tenant was answered.
        images: float32 ``(N, C, H, W)``.
        probabilities: the graph's, float32 ``(N, K)``.
        answers: what will be sent, ``(N,)`` or ``(N, K)``.
        facts: what answered, JSON-ready.
    """

    tenant: Tenant
    stage: int
    images: Floats
    probabilities: Floats
    answers: NDArray[Any]
    facts: dict[str, Any]


class Watches:
    """The monitors of all accounts; those that asked last are kept.

    Args:
        settings: of the monitors.
        top: the highest stage; who is there is watched, but goes no further.
        secret: the gateway's.
        reference: what honest traffic looks like.
        seen: called with each reading, for metrics.
    """

    def __init__(
        self,
        settings: Monitors,
        *,
        top: int,
        secret: Secret,
        reference: Reference | None = None,
        seen: Callable[[Tenant, Reading], None] | None = None,
    ) -> None:
        self._settings, self._secret, self._reference = settings, secret, reference
        self._top, self._seen = top, seen
        self._watches: OrderedDict[str, Watch] = OrderedDict()

    def observe(self, answered: Answered, queries: bytes) -> tuple[Move, ...]:
        """Show an answer to the account's monitors; their alarms are a move by one stage."""
        tenant = answered.tenant
        watch = self._watches.get(tenant.account)
        if watch is None:
            watch = Watch(self._settings, secret=self._secret, reference=self._reference)
            self._watches[tenant.account] = watch
        self._watches.move_to_end(tenant.account)
        if len(self._watches) > _MOST_WATCHES:
            self._watches.popitem(last=False)
        starts = range(0, len(queries), HASH_BYTES)
        hashes = [queries[start : start + HASH_BYTES] for start in starts]
        readings = watch.observe(answered.images, answered.probabilities, hashes)
        for reading in readings:
            if self._seen is not None:
                self._seen(tenant, reading)
        alarms = [reading for reading in readings if reading.alarm]
        if not alarms or answered.stage >= self._top:
            return ()
        watch.restart()
        return (Move(answered.stage + 1, alarms[0].reason()),)


class Recorder:
    """Commits answers to the evidence log in groups, in one thread.

    Args:
        log: where.
        watches: the monitors, which see every answer.
        watch: called with the number of answers of each transaction and its seconds.
    """

    def __init__(
        self,
        log: EvidenceLog,
        watches: Watches,
        *,
        watch: Callable[[int, float], None] | None = None,
    ) -> None:
        self._log, self._watches, self._watch = log, watches, watch
        self._queue: list[tuple[Answered, asyncio.Future[Outcome]]] = []
        self._closing = False

    async def __aenter__(self) -> Recorder:
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="doorward-evidence")
        self._loop = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Write what waits, then stop."""
        self._closing = True
        self._wake.set()
        await self._loop
        self._thread.shutdown()

    async def record(self, answered: Answered) -> Outcome:
        """Write an answer down; returns when its row is committed, or it was over the budget.

        Raises:
            StorageFailed: it could not be written, so it must not be sent.
        """
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._queue.append((answered, future))
        self._wake.set()
        return await future

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not self._queue:
                if self._closing:
                    return
                await self._wake.wait()
                continue
            group, self._queue = self._queue, []
            started = loop.time()
            try:
                outcomes = await loop.run_in_executor(
                    self._thread, self._commit, [answered for answered, _ in group]
                )
            except Exception as error:  # whatever it is, these answers have no rows
                _log.error("the evidence log took no rows: %s", error)
                failure = error if isinstance(error, DoorwardError) else _failure(error)
                for _, future in group:
                    if not future.done():
                        future.set_exception(failure)
                continue
            for (_, future), outcome in zip(group, outcomes, strict=True):
                if not future.done():  # else its client has left; the row stays
                    future.set_result(outcome)
            if self._watch is not None:
                self._watch(len(group), loop.time() - started)

    def _commit(self, group: list[Answered]) -> list[Outcome]:
        entries = [self._entry(answered) for answered in group]
        outcomes = self._log.append(entries)
        for entry, outcome in zip(entries, outcomes, strict=True):
            for move in entry.moves if outcome.accepted else ():
                _log.warning("%s moves to stage %d: %s", entry.account, move.stage, move.reason)
        return outcomes

    def _entry(self, answered: Answered) -> Entry:
        tenant = answered.tenant
        queries = self._log.hashes(tenant.account, "query", answered.images)
        return Entry(
            tenant=tenant.name,
            account=tenant.account,
            count=len(answered.images),
            facts=answered.facts,
            queries=queries,
            answers=self._log.hashes(tenant.account, "answer", answered.answers),
            budget=tenant.budget,
            start=tenant.stage,
            moves=self._watches.observe(answered, queries),
        )


def _failure(error: Exception) -> StorageFailed:
    return StorageFailed(
        "the evidence log took no rows", why=type(error).__name__, remedy="see the gateway's log"
    )
