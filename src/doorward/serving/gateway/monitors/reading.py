"""What a monitor says.

>>> Reading("prada", statistic=0.7, threshold=0.9, alarm=True, queries=120).reason()["monitor"]
'prada'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Monitor", "Reading"]


@dataclass(frozen=True)
class Reading:
    """One test of a monitor.

    Args:
        monitor: its name.
        statistic: what it measured.
        threshold: what it compared with.
        alarm: whether the statistic is on the wrong side of it.
        queries: images that the monitor had seen of the account.
        detail: what else an operator wants to know.
    """

    monitor: str
    statistic: float
    threshold: float
    alarm: bool
    queries: int
    detail: str = ""

    def reason(self) -> dict[str, Any]:
        """JSON-ready, for the evidence log."""
        return {
            "monitor": self.monitor,
            "statistic": round(self.statistic, 6),
            "threshold": self.threshold,
            "queries": self.queries,
            "detail": self.detail,
        }


class Monitor(Protocol):
    """Watches one account."""

    def observe(
        self, images: NDArray[np.float32], probabilities: NDArray[np.float32]
    ) -> Reading | None:
        """Take note of answered images.

        Args:
            images: ``(N, C, H, W)``.
            probabilities: ``(N, K)``, of the graph, before anything is made of them.

        Returns:
            A reading if there was enough to test, else None.
        """
