"""PRADA as a monitor: an alarm where `doorward.honeypot.defences.PradaWatch` falls below delta.

>>> import numpy as np
>>> from doorward.serving.gateway.monitors.settings import Prada
>>> rng = np.random.default_rng(0)
>>> monitor = PradaMonitor(Prada(least=50))
>>> one_class = np.array([[1.0, 0.0]], np.float32).repeat(60, 0)
>>> reading = monitor.observe(rng.random((60, 1, 8, 8), dtype=np.float32), one_class)
>>> reading.statistic > 0.9, reading.alarm
(True, False)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from doorward.honeypot.defences import PradaWatch
from doorward.serving.gateway.monitors.reading import Reading

__all__ = ["PradaMonitor"]

Floats = NDArray[np.float32]


class PradaMonitor(PradaWatch):
    """Watches the distances between the queries of one account.

    Args:
        settings: thresholds.
        seed: of the projection; keep it secret, so that nobody can walk where it does not look.
    """

    def observe(self, images: Floats, probabilities: Floats) -> Reading | None:
        """Take note of answered images (see `Monitor.observe`)."""
        statistic = self.watch(images, probabilities.argmax(1))
        if statistic is None:
            return None
        delta = self.settings.delta
        return Reading("prada", statistic, delta, statistic < delta, self.seen)
