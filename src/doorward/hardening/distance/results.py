"""What a measurement of class distances says: the matrix, what is censored, the closest pairs.

result = class_distances(model, clean, kind="patch")
result.distances[3][5], result.censored[3][5], result.mean.mean, result.closest(5)
enlargement(before, after).mean
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.hardening.distance.intervals import Estimate, bootstrap
from doorward.hardening.measures import Measure
from doorward.records import STRICT, Record
from doorward.training.context import Labels

__all__ = ["Close", "DistanceResult", "Enlargement", "Matrix", "enlargement"]

Matrix = list[list[float | None]]
"""K x K, rows are sources; None where nothing was measured or reached."""


class Close(NamedTuple):
    """One ordered pair of classes.

    Attributes:
        source: class.
        target: class.
        distance: smallest over the starts.
        success: share of unseen images that the change leads to the target.
    """

    source: int
    target: int
    distance: float
    success: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DistanceResult(Record):
    """The class distances of one model.

    Attributes:
        kind: the measure that is the distance.
        measuring: the measuring attack, all of its numbers.
        recipe_digest: names exactly these.
        data: name of the set of clean images.
        images: how many.
        labels: ``"given"``, or ``"model"`` if the model's own answers stood in for them.
        classes: names of the model's classes.
        distances: of each ordered pair, the smallest over the starts.
        censored: pairs that were tried and that no start reached: their distance is not known, and
            counts nowhere as 0.
        success: of the attack behind each distance, on images its search has not seen.
        measures: every measure of the same attack.
        by_start: the matrix of each random start.
        mean: over the pairs reached, with a bootstrap interval over them.
        median: over all pairs, a censored one counted as larger than all others; None if that
            is where the median lies.
        start_spread: median over the pairs of the relative standard deviation between their
            starts; None with one start.
        seed: of everything random.
        device: where it ran.
        seconds: wall-clock time.
        forward_images: images that went through the model in the search.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) meanwhile.
        environment: versions and hardware.
    """

    kind: Measure
    measuring: dict[str, Any]
    recipe_digest: str
    data: str
    images: int
    labels: Labels
    classes: tuple[str, ...]
    distances: Matrix
    censored: list[list[bool]]
    success: Matrix
    measures: dict[Measure, Matrix]
    by_start: list[Matrix]
    mean: Estimate
    median: float | None
    start_spread: float | None
    seed: int
    device: str
    seconds: float
    forward_images: int
    peak_memory_mib: float
    environment: dict[str, Any]

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The ordered pairs that were tried."""
        count = range(len(self.classes))
        return [
            (s, t)
            for s in count
            for t in count
            if self.distances[s][t] is not None or self.censored[s][t]
        ]

    @property
    def unreachable(self) -> list[tuple[int, int]]:
        """The pairs that no start reached."""
        return [(s, t) for s, t in self.pairs if self.censored[s][t]]

    def closest(self, count: int | None = None) -> list[Close]:
        """The pairs reached, from the closest; all without `count`."""
        found = [
            Close(s, t, distance, self.success[s][t] or 0.0)
            for s, t in self.pairs
            if (distance := self.distances[s][t]) is not None
        ]
        return sorted(found, key=lambda close: close.distance)[:count]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Enlargement(Record):
    """How much farther apart the classes are than before.

    Attributes:
        kind: of distance.
        relative: mean over the pairs reached before and after of ``(after - before) / before``,
            which is what MOTH and DECK report, with a bootstrap interval over these pairs.
        median: the same as a median over all pairs reached before, one that is out of reach
            afterwards counted as larger than all others; None if that is where it lies.
        escaped: pairs reached before and not after; they take no part in the mean, which is
            therefore too small.
        entered: pairs reached after and not before.
    """

    kind: Measure
    relative: Estimate
    median: float | None
    escaped: int
    entered: int


def enlargement(before: DistanceResult, after: DistanceResult) -> Enlargement:
    """Compare two models that were measured in the same way.

    Args:
        before: of the original.
        after: of the hardened model.

    Raises:
        InvalidInput: the measuring attacks or the classes differ.
    """
    if before.recipe_digest != after.recipe_digest or before.classes != after.classes:
        raise InvalidInput(
            "the two distances were not measured in the same way",
            why="kind, numbers of the measuring attack or classes differ",
            remedy="measure both models by the same attack",
        )
    grown, escaped, entered = [], 0, 0
    for s, t in before.pairs:
        old, new = before.distances[s][t], after.distances[s][t]
        if old and new is not None:
            grown.append((new - old) / old)
        escaped += old is not None and new is None
        entered += old is None and new is not None
    return Enlargement(
        kind=before.kind,
        relative=bootstrap(grown, seed=before.seed),
        median=median([*grown, *[None] * escaped]),
        escaped=escaped,
        entered=entered,
    )


def median(values: list[float | None]) -> float | None:
    """The median, None counted as larger than every number.

    >>> median([3.0, 1.0, None]), median([1.0, None]), median([None])
    (3.0, None, None)
    """
    order = sorted(float("inf") if value is None else value for value in values)
    if not order:
        return None
    middle = (order[(len(order) - 1) // 2] + order[len(order) // 2]) / 2
    return middle if middle < float("inf") else None
