"""Limits on what one sender can make the desk do: requests per minute, bytes per body.

>>> limiter = RateLimiter(per_minute=60, clock=lambda: 0.0)
>>> for _ in range(60): limiter.take("bob")
>>> limiter.take("bob")
Traceback (most recent call last):
doorward.serving.desk.refusals.TooMany: more than 60 requests a minute: ...
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

from doorward.serving.desk.refusals import TooMany, TooMuch

__all__ = ["RateLimiter", "copy_body"]

_MAX_SENDERS = 100_000


class RateLimiter:
    """Token buckets, one per sender: a full minute's worth at once, then at the steady rate.

    It counts in this process; several processes of one desk each allow the rate.

    Args:
        per_minute: requests.
        clock: seconds, monotonic.
    """

    def __init__(self, per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.per_minute, self._clock = per_minute, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, sender: str) -> None:
        """Count one request.

        Raises:
            TooMany: the sender has none left now.
        """
        rate, now = self.per_minute / 60, self._clock()
        with self._lock:
            left, then = self._buckets.pop(sender, (float(self.per_minute), now))
            left = min(float(self.per_minute), left + (now - then) * rate)
            self._buckets[sender] = (max(left - 1, 0.0) if left >= 1 else left, now)
            if len(self._buckets) > _MAX_SENDERS:  # who was not seen for longest starts afresh
                self._buckets.popitem(last=False)
        if left < 1:
            refused = TooMany(
                f"more than {self.per_minute} requests a minute",
                why="the desk limits what one sender may ask",
                remedy="wait a little",
            )
            refused.wait = max(1, round((1 - left) / rate))
            raise refused


async def copy_body(
    chunks: AsyncIterator[bytes], target: BinaryIO, *, limit: int, declared: str | None = None
) -> tuple[str, int]:
    """Copy the body of a request into a file, hashing it, and stop at the limit.

    Args:
        chunks: the body as it arrives.
        target: where to.
        limit: largest number of bytes.
        declared: the Content-Length header, if any: a body that says it is too large is not read.

    Returns:
        Hex SHA-256 and number of bytes.

    Raises:
        TooMuch: the body is larger.
    """
    too_much = TooMuch(f"the body is larger than {limit} bytes", remedy="send less")
    if declared and declared.isascii() and declared.isdigit() and int(declared[:20]) > limit:
        raise too_much
    digest, size = hashlib.sha256(), 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limit:
            raise too_much
        digest.update(chunk)
        target.write(chunk)
    return digest.hexdigest(), size
