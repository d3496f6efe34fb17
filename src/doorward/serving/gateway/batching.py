"""Dynamic batching: what is asked at about the same time is answered by one inference.

    async with Batcher(max_batch=64, max_delay=0.002) as batcher:
        probabilities = await batcher.run(graph, images)

One thread computes while the event loop reads the next requests. A request waits for company only
while nothing is being computed, and never longer than `max_delay`; under load the batches fill by
themselves while the one before is computed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from doorward.errors import ModelUnsuitable
from doorward.serving.gateway.refusals import Refusal

__all__ = ["Answerer", "Batcher"]

Floats = NDArray[np.float32]
_AHEAD = 2  # inferences handed to the thread: the one that runs, and a full one that waits for it


class Answerer(Protocol):
    """What computes a batch; batches never mix two of them."""

    def __call__(self, images: Floats) -> Floats:
        """Answers ``(N, K)`` to images ``(N, C, H, W)``."""


@dataclass(eq=False)
class _Job:
    images: Floats
    answer: asyncio.Future[Floats]
    arrived: float


_Key = tuple[Answerer, tuple[int, ...]]


class Batcher:
    """Gathers requests into batches, computed by one thread.

    Args:
        max_batch: images in one inference.
        max_delay: seconds that a request waits for company at most.
        max_waiting: images that may wait.
        watch: called with the number of images of each inference and its seconds, for metrics.
    """

    def __init__(
        self,
        *,
        max_batch: int = 64,
        max_delay: float = 0.002,
        max_waiting: int = 4096,
        watch: Callable[[int, float], None] | None = None,
    ) -> None:
        self.max_batch, self.max_delay, self.max_waiting = max_batch, max_delay, max_waiting
        self._watch = watch
        self._queues: dict[_Key, deque[_Job]] = {}
        self._waiting = 0
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    async def __aenter__(self) -> Batcher:
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="doorward-inference")
        self._loop = asyncio.create_task(self._serve())
        return self

    async def __aexit__(self, *exception: object) -> None:
        """Answer what waits, then stop."""
        self._closing = True
        self._wake.set()
        await self._loop
        await asyncio.gather(*self._running)
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Images that wait."""
        return self._waiting

    async def run(self, answerer: Answerer, images: Floats) -> Floats:
        """Answers of `answerer` to `images`, in order.

        Args:
            answerer: what computes them.
            images: float32 ``(N, C, H, W)``, N >= 1; more than `max_batch` are cut into parts.

        Raises:
            Refusal: 503, too many images wait already, or the gateway is shutting down.
            ModelUnsuitable: these images cannot be answered.
        """
        if self._closing or (self._waiting and self._waiting + len(images) > self.max_waiting):
            raise Refusal(
                "the gateway is shutting down" if self._closing else "too many requests wait",
                remedy="send it again a little later",
                status=503,
                retry_after=1,
            )
        parts = [
            images[start : start + self.max_batch]
            for start in range(0, len(images), self.max_batch)
        ]
        answers = [self._put(answerer, part) for part in parts]
        try:
            done = await asyncio.gather(*answers)
        finally:
            for answer in answers:
                answer.cancel()  # when one fails or the client leaves, nobody waits for the others
        return done[0] if len(done) == 1 else np.concatenate(done)

    def _put(self, answerer: Answerer, images: Floats) -> asyncio.Future[Floats]:
        loop = asyncio.get_running_loop()
        job = _Job(images, loop.create_future(), loop.time())
        # Images of another size cannot share a batch.
        self._queues.setdefault((answerer, images.shape[1:]), deque()).append(job)
        self._waiting += len(images)
        self._wake.set()
        return job.answer

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if not self._queues:
                if self._closing:
                    return
                await self._wake.wait()
                continue
            key = min(self._queues, key=lambda key: self._queues[key][0].arrived)
            queue = self._queues[key]
            # Jobs have one image at least: no more than max_batch of them need to be looked at.
            full = sum(len(job.images) for job in islice(queue, self.max_batch)) >= self.max_batch
            left = queue[0].arrived + self.max_delay - loop.time()
            if full or self._closing:
                ready = len(self._running) < _AHEAD
            else:
                ready = not self._running and left <= 0
            if ready:
                self._start(key)
            else:
                patience = None if self._running else max(left, 0.0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await self._wake.wait()

    def _start(self, key: _Key) -> None:
        """Hand the oldest jobs of a queue to the thread, as many as fit into one batch."""
        queue, jobs, images = self._queues[key], [], 0
        while queue and images + len(queue[0].images) <= self.max_batch:
            job = queue.popleft()
            self._waiting -= len(job.images)
            if not job.answer.done():  # else its client has left
                jobs.append(job)
                images += len(job.images)
        if not queue:
            del self._queues[key]
        if jobs:
            task = asyncio.create_task(self._compute(key[0], jobs))
            self._running.add(task)
            task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._wake.set()

    async def _compute(self, answerer: Answerer, jobs: list[_Job]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        try:
            answers = await loop.run_in_executor(self._thread, _answer, answerer, jobs)
        except ModelUnsuitable as error:
            if len(jobs) == 1:
                _fail(jobs[0], error)
            else:  # one client's images must not cost the others their answers
                for job in jobs:
                    await self._compute(answerer, [job])
            return
        except Exception as error:  # ours to mend, and the clients' to know that it failed
            for job in jobs:
                _fail(job, error)
            return
        for job, answer in zip(jobs, answers, strict=True):
            if not job.answer.done():
                job.answer.set_result(answer)
        if self._watch is not None:
            self._watch(sum(len(job.images) for job in jobs), loop.time() - started)


def _answer(answerer: Answerer, jobs: list[_Job]) -> list[Any]:
    parts = [job.images for job in jobs]
    images = np.ascontiguousarray(parts[0] if len(parts) == 1 else np.concatenate(parts))
    ends = np.cumsum([len(part) for part in parts])[:-1]
    return np.split(answerer(images), ends)


def _fail(job: _Job, error: Exception) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)
