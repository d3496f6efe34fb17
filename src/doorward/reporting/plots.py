"""The blocks that are drawn as charts: lines and dots.

>>> Curve({"loss": ([1, 2], [2.0, 0.5])}, x="epoch", y="loss").alt
'Line chart of loss over epoch: loss from 2 at 1 to 0.5 at 2.'
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from doorward.errors import InvalidInput
from doorward.reporting.blocks import Block

__all__ = ["Curve", "Dots", "is_drawable"]


@dataclass(frozen=True)
class Curve(Block):
    """A line chart.

    Args:
        series: name -> (x values, y values), of equal length; gaps are NaN or None.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        caption: the line below.
        log: draw the vertical axis logarithmically.
    """

    series: Mapping[str, tuple[Sequence[float], Sequence[float | None]]]
    x: str = ""
    y: str = ""
    caption: str = ""
    log: bool = False
    kind: ClassVar[str] = "curve"

    def __post_init__(self) -> None:
        if not self.series:
            raise InvalidInput("a curve has no series")
        for name, (xs, ys) in self.series.items():
            if len(xs) != len(ys) or not len(xs):
                raise InvalidInput(
                    f"series {name!r} has {len(xs)} x values and {len(ys)} y values",
                    why="there must be as many of one as of the other, and at least one",
                )

    @property
    def alt(self) -> str:
        """The chart in one sentence: where each line begins and ends."""
        parts = []
        for name, (xs, ys) in self.series.items():
            points = [(x, y) for x, y in zip(xs, ys, strict=True) if is_drawable(y)]
            if points:
                (first, start), (last, end) = points[0], points[-1]
                parts.append(f"{name} from {start:.4g} at {first:.4g} to {end:.4g} at {last:.4g}")
            else:
                parts.append(f"{name} has no values")
        return f"Line chart of {self.y or 'values'} over {self.x or 'steps'}: {'; '.join(parts)}."


@dataclass(frozen=True)
class Dots(Block):
    """A dot chart: one line per label, a dot per measurement, a bar at their mean.

    Args:
        values: label -> measurements (one per seed); an empty list leaves the line blank.
        x: label of the axis.
        caption: the line below.
    """

    values: Mapping[str, Sequence[float]]
    x: str = ""
    caption: str = ""
    kind: ClassVar[str] = "dots"

    def __post_init__(self) -> None:
        if not any(is_drawable(v) for values in self.values.values() for v in values):
            raise InvalidInput("a dot chart has no values")

    @property
    def alt(self) -> str:
        """The chart in one sentence: the mean and count of each line."""
        parts = [
            f"{label} {sum(values) / len(values):.4g} (n = {len(values)})"
            for label, values in self.values.items()
            if values
        ]
        return f"Dot chart of {self.x or 'values'}; means: {'; '.join(parts)}."


def is_drawable(value: float | None) -> bool:
    """Whether a value is a finite number."""
    return value is not None and math.isfinite(value)
