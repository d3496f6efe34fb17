"""PRADA: queries that walk from image to image lie closer together than nature's do.

>>> import numpy as np
>>> rng = np.random.default_rng(0)
>>> watch = PradaWatch(Prada(least=50))
>>> images = rng.random((60, 1, 8, 8), dtype=np.float32)
>>> watch.watch(images, np.zeros(60, np.int64)) > 0.9
True

The gateway's monitor of that name (`doorward.serving.gateway.monitors.prada`) is this watch, too.
"""

from __future__ import annotations

from collections import deque
from itertools import permutations
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.honeypot.defences.base import DEFENCES, Answering, Defence
from doorward.randomness import Secret, numpy_generator
from doorward.records import STRICT

__all__ = ["Prada", "PradaWatch"]

Floats = NDArray[np.float32]
Count = Annotated[int, Field(ge=1)]
_LEAST_OF_CLASS = 10
_OUTLIER = 3.0


@DEFENCES.register("prada", paper="Juuti et al. 2019", gateway=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prada(Defence):
    """Distances between an account's queries that are not bell-shaped: an alarm.

    Juuti, Szyller, Marchal, Asokan (EuroS&P 2019), *PRADA: Protecting against DNN Model Stealing
    Attacks*. Reproduced: growing sets per class with their thresholds, removal of outliers, the
    Shapiro-Wilk test, and, as a defence, the response of the authors' code: after the alarm the
    three largest probabilities change places. Ours: the window, the cap on the sets, and the random
    projection, so that one account costs a few megabytes at most, however much it asks; and the
    order of the three, which the account's secret and the image decide, once and for all.

    Args:
        delta: alarm when the Shapiro-Wilk statistic W falls below; the paper's 0.90 to 0.96 go by
            the data. Measure yours on honest traffic first (metric ``doorward_gateway_reading``).
        least: distances before the first test (paper: 100).
        every: queries between tests (the authors' code: 10).
        window: most recent distances that are tested; scipy's test is exact up to 5000.
        capacity: images kept per account, which bounds memory.
        dimensions: to which images are projected by a secret random matrix; smaller ones are kept
            as they are. Ours: it keeps distances to some per cent, and memory and time small.
    """

    delta: Annotated[float, Field(gt=0, lt=1)] = 0.9
    least: Annotated[int, Field(ge=20, le=5000)] = 100
    every: Count = 10
    window: Annotated[int, Field(ge=100, le=5000)] = 1000
    capacity: Count = 4000
    dimensions: Annotated[int, Field(ge=16)] = 128

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """What is told after the alarm: the three largest in an order of the secret's."""
        drawing = secret.derive("prada response")
        told = probabilities.clone()
        largest = probabilities.topk(min(3, probabilities.shape[1]), dim=1).indices
        orders = list(permutations(range(largest.shape[1])))[1:]  # never the order that is right
        for row, image in enumerate(images.detach().float().cpu().contiguous()):
            order = orders[drawing.integer(image.numpy().tobytes(), len(orders))]
            told[row, largest[row]] = probabilities[row, largest[row][list(order)]]
        return told

    def session(self, secret: Secret) -> Answering:
        """Watch one account; tell the truth until the alarm, and never again after it."""
        watch = PradaWatch(self, seed=secret.derive("prada watch").integer(b"seed", 2**63))
        alarmed = False

        def answering(probabilities: Tensor, images: Tensor) -> Tensor:
            nonlocal alarmed
            if not alarmed:
                labels = probabilities.argmax(1).numpy()
                statistic = watch.watch(images.float().numpy(), labels)
                alarmed = statistic is not None and statistic < self.delta
            return self.answer(probabilities, images, secret) if alarmed else probabilities

        return answering


class _Growing:
    """The images of one class that are far enough from each other, and their distances."""

    def __init__(self) -> None:
        self.kept: Floats = np.empty((0, 0), np.float32)
        self.added: list[float] = []
        self.threshold = 0.0


class PradaWatch:
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

    @property
    def seen(self) -> int:
        """Images observed so far."""
        return self._seen

    def watch(self, images: Floats, labels: NDArray[np.int64]) -> float | None:
        """Take note of answered images.

        Args:
            images: float32 ``(N, C, H, W)``.
            labels: their classes, ``(N,)``.

        Returns:
            The Shapiro-Wilk statistic W, if there was enough to test and a test was due.
        """
        points = self._project(images)
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

    def _test(self) -> float | None:
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
        return float(shapiro(values).statistic) if np.ptp(values) > 0 else 0.0


def _distances(first: Floats, second: Floats) -> Floats:
    """Euclidean, ``(len(first), len(second))``."""
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    roots: Floats = np.sqrt(np.maximum(squares, 0))
    return roots
