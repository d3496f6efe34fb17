"""All monitors of one account.

>>> from doorward.serving.gateway.monitors.settings import Monitors
>>> watch = Watch(Monitors(), secret=Secret(bytes(32)))
>>> watch.observe(np.zeros((1, 1, 4, 4), np.float32), np.ones((1, 1), np.float32))
[]
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from doorward.randomness import Secret
from doorward.serving.gateway.monitors.averages import DriftMonitor, ShareMonitor
from doorward.serving.gateway.monitors.prada import PradaMonitor
from doorward.serving.gateway.monitors.reading import Monitor, Reading
from doorward.serving.gateway.monitors.reference import Reference
from doorward.serving.gateway.monitors.settings import Monitors

__all__ = ["Watch"]

Floats = NDArray[np.float32]
_REMEMBERED = 20_000  # hashes of images, to know those that were sent before


class Watch:
    """The monitors of one account, and the images that they have seen.

    Args:
        settings: which monitors.
        secret: the gateway's.
        reference: what honest traffic looks like; without it `share` and `drift` are off.
    """

    def __init__(
        self, settings: Monitors, *, secret: Secret, reference: Reference | None = None
    ) -> None:
        self._settings, self._reference = settings, reference
        self._seed = secret.derive("monitors").integer(b"prada projection", 2**62)
        self._known: dict[bytes, None] = {}
        self.restart()

    def restart(self) -> None:
        """Forget all readings: after a move the account is watched anew."""
        chosen, reference = self._settings, self._reference
        self._monitors: list[Monitor] = []
        if chosen.prada is not None:
            self._monitors.append(PradaMonitor(chosen.prada, seed=self._seed))
        if chosen.share is not None and reference is not None:
            self._monitors.append(ShareMonitor(chosen.share, reference))
        if chosen.drift is not None and reference is not None:
            self._monitors.append(DriftMonitor(chosen.drift, reference))

    def observe(
        self, images: Floats, probabilities: Floats, hashes: Sequence[bytes] | None = None
    ) -> list[Reading]:
        """Take note of answered images.

        Args:
            images: ``(N, C, H, W)``.
            probabilities: ``(N, K)``.
            hashes: of the images. One that was sent before, by a retry or a cautious client, tells
                nothing new and is left out: its distance of 0 would look like a walk.

        Returns:
            The readings of those monitors that had enough to test.
        """
        if hashes is not None:
            fresh = []
            for row, name in enumerate(hashes):
                if name not in self._known:
                    fresh.append(row)
                    self._known[name] = None
            while len(self._known) > _REMEMBERED:
                del self._known[next(iter(self._known))]
            if not fresh:
                return []
            if len(fresh) < len(images):
                images, probabilities = images[fresh], probabilities[fresh]
        readings = (monitor.observe(images, probabilities) for monitor in self._monitors)
        return [reading for reading in readings if reading is not None]
