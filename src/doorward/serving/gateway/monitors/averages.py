"""Monitors that compare recent averages with a reference: shares of classes, features.

>>> import numpy as np
>>> from doorward.serving.gateway.monitors.settings import Share
>>> flat = Reference(images=9, shares=(0.5, 0.5), means=(0,) * 5, deviations=(1,) * 5)
>>> monitor = ShareMonitor(Share(least=10), flat)
>>> images = np.zeros((20, 1, 2, 2), np.float32)
>>> reading = monitor.observe(images, np.tile(np.array([[0.9, 0.1]], np.float32), (20, 1)))
>>> reading.statistic, reading.alarm, reading.detail
(0.5, True, 'class 0: 100.0 %, reference 50.0 %')
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from doorward.serving.gateway.monitors.reading import Reading
from doorward.serving.gateway.monitors.reference import FEATURES, Reference, features_of
from doorward.serving.gateway.monitors.settings import Drift, Share

__all__ = ["DriftMonitor", "ShareMonitor"]

Floats = NDArray[np.float32]


class ShareMonitor:
    """Watches how often each class is answered.

    Args:
        settings: thresholds.
        reference: with as many classes as the model.
    """

    def __init__(self, settings: Share, reference: Reference) -> None:
        self.settings, self._shares = settings, np.array(reference.shares)
        self._labels: deque[int] = deque(maxlen=max(settings.window, settings.least))
        self._seen = 0

    def observe(self, images: Floats, probabilities: Floats) -> Reading | None:
        """Take note of answered images (see `Monitor.observe`)."""
        self._labels.extend(probabilities.argmax(1).tolist())
        self._seen += len(images)
        if len(self._labels) < self.settings.least:
            return None
        shares = np.bincount(self._labels, minlength=len(self._shares)) / len(self._labels)
        rises = shares - self._shares
        most = int(rises.argmax())
        rise = float(rises[most])
        told = f"class {most}: {shares[most]:.1%}, reference {self._shares[most]:.1%}"
        return Reading(
            "share", rise, self.settings.rise, rise > self.settings.rise, self._seen,
            told.replace("%", " %"),
        )  # fmt: skip


class DriftMonitor:
    """Watches features of the images, and how certain the model is about them.

    Args:
        settings: thresholds.
        reference: what honest traffic looks like.
    """

    def __init__(self, settings: Drift, reference: Reference) -> None:
        self.settings = settings
        self._means, self._deviations = np.array(reference.means), np.array(reference.deviations)
        self._features: deque[NDArray[np.float64]] = deque(
            maxlen=max(settings.window, settings.least)
        )
        self._seen = 0

    def observe(self, images: Floats, probabilities: Floats) -> Reading | None:
        """Take note of answered images (see `Monitor.observe`)."""
        self._features.extend(features_of(images, probabilities))
        self._seen += len(images)
        if len(self._features) < self.settings.least:
            return None
        shifts = np.abs(np.mean(self._features, axis=0) - self._means) / self._deviations
        most = int(shifts.argmax())
        limit = self.settings.deviations
        shift = float(shifts[most])
        return Reading("drift", shift, limit, shift > limit, self._seen, FEATURES[most])
