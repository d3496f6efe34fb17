"""PRADA: queries that walk from image to image lie closer together than nature's do.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> monitor = PradaMonitor(Prada(least=50))
>>> one_class = np.array([[1.0, 0.0]], np.float32).repeat(60, 0)
>>> reading = monitor.observe(rng.random((60, 1, 8, 8), dtype=np.float32), one_class)
>>> reading.statistic > 0.9, reading.alarm
(True, False)

Paper: Juuti, Szyller, Marchal, Asokan, *PRADA: Protecting against DNN Model Stealing Attacks*,
EuroS&P 2019; constants as in the authors' code. Reproduced: growing sets per class with their
thresholds, removal of outliers, Shapiro-Wilk test. Ours: the window, the cap on the sets, and the
random projection, so that one account costs a few megabytes at most, however much it asks.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from doorward.randomness import numpy_generator
from doorward.serving.gateway.monitors.reading import Reading
from doorward.serving.gateway.monitors.settings import Prada

__all__ = ["PradaMonitor"]

Floats = NDArray[np.float32]
_LEAST_OF_CLASS = 10
_OUTLIER = 3.0


class _Growing:
    """The images of one class that are far enough from each other, and their distances."""

    def __init__(self) -> None:
        self.kept: Floats = np.empty((0, 0), np.float32)
        self.added: list[float] = []
        self.threshold = 0.0


class PradaMonitor:
    """Watches the distances between the queries of one account.

    Args:
        settings: thresholds.
        seed: of the projection; keep it secret, so that nobody can walk where it does not look.
    """

    def __init__(self, settings: Prada, *, seed: int = 0) -> None:
        self.settings, self._seed = settings, seed
        self._classes: dict[int, _Growing] = {}
        self._distances: deque[tuple[int, float]] = deque(maxlen=settings.window)
        self._seen = self._tested = self._kept = 0
        self._projection: Floats | None = None

    def observe(self, images: Floats, probabilities: Floats) -> Reading | None:
        """Take note of answered images (see `Monitor.observe`)."""
        points, labels = self._project(images), probabilities.argmax(1)
        for label in np.unique(labels):
            self._grow(int(label), points[labels == label])
        self._seen += len(images)
        if len(self._distances) < self.settings.least:
            return None
        if self._seen - self._tested < self.settings.every:
            return None
        self._tested = self._seen
        return self._test()

    def _project(self, images: Floats) -> Floats:
        flat = images.reshape(len(images), -1)
        wide = flat.shape[1]
        if wide <= self.settings.dimensions:
            return flat
        if self._projection is None or len(self._projection) != wide:
            draw = numpy_generator(self._seed, "prada projection", wide)
            matrix = draw.standard_normal((wide, self.settings.dimensions), dtype=np.float32)
            self._projection = matrix / np.float32(self.settings.dimensions) ** 0.5
        return flat @ self._projection

    def _grow(self, label: int, points: Floats) -> None:
        growing = self._classes.setdefault(label, _Growing())
        if not len(growing.kept):
            growing.kept = points[:0].reshape(0, points.shape[1])
        nearest = _distances(points, growing.kept).min(1, initial=np.inf)
        among = _distances(points, points)
        chosen: list[int] = []
        room = self.settings.capacity - self._kept
        for row in range(len(points)):
            distance = float(min(nearest[row], among[row, chosen].min(initial=np.inf)))
            if np.isfinite(distance):  # the first image of a class has no distance
                self._distances.append((label, distance))
            if len(chosen) < room and distance > growing.threshold:
                chosen.append(row)
                if np.isfinite(distance):
                    growing.added.append(distance)
                    spread = np.mean(growing.added) - np.std(growing.added)
                    growing.threshold = max(growing.threshold, float(spread))
        growing.kept = np.concatenate([growing.kept, points[chosen]])
        self._kept += len(chosen)

    def _test(self) -> Reading | None:
        from scipy.stats import shapiro

        labels = np.array([label for label, _ in self._distances])
        values = np.array([distance for _, distance in self._distances])
        names, counts = np.unique(labels, return_counts=True)
        values = values[np.isin(labels, names[counts >= _LEAST_OF_CLASS])]
        if len(values) < self.settings.least:
            return None
        spread = values.std()
        if spread > 0:
            values = values[np.abs(values - values.mean()) <= _OUTLIER * spread]
        # Distances that are all equal are no bell at all; scipy's test does not know them.
        statistic = float(shapiro(values).statistic) if np.ptp(values) > 0 else 0.0
        delta = self.settings.delta
        return Reading("prada", statistic, delta, statistic < delta, self._seen)


def _distances(first: Floats, second: Floats) -> Floats:
    """Euclidean, ``(len(first), len(second))``."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    roots: Floats = np.sqrt(np.maximum(squares, 0))
    return roots
