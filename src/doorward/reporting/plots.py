"""The blocks that are drawn as charts: lines, dots, bars and points in a plane.

>>> Curve({"loss": ([1, 2], [2.0, 0.5])}, x="epoch", y="loss").alt
'Line chart of loss over epoch: loss from 2 at 1 to 0.5 at 2.'
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from doorward.errors import InvalidInput
from doorward.reporting.blocks import Block

__all__ = ["Bars", "Chart", "Curve", "Dots", "Scatter", "is_drawable"]


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


@dataclass(frozen=True)
class Bars(Block):
    """A bar per label, and a line that says from where on a bar is long.

    Args:
        values: label -> length; what is not finite is left blank.
        x: label of the axis.
        line: where to draw the line across all bars; None for none.
        line_label: what it means.
        marked: labels of bars to set apart, by colour and by `mark` beside their number.
        mark: a word for them.
        caption: the line below.
    """

    values: Mapping[str, float]
    x: str = ""
    line: float | None = None
    line_label: str = ""
    marked: Collection[str] = ()
    mark: str = ""
    caption: str = ""
    kind: ClassVar[str] = "bars"

    def __post_init__(self) -> None:
        if not any(is_drawable(value) for value in self.values.values()):
            raise InvalidInput("a bar chart has no values")
        for label in self.marked:
            if label not in self.values:
                raise InvalidInput(f"there is no bar {label!r} to set apart")

    @property
    def alt(self) -> str:
        """The chart in one sentence: every bar, and the line."""
        parts = [
            f"{label} {value:.4g}" + (f" ({self.mark or 'set apart'})" * (label in self.marked))
            for label, value in self.values.items()
            if is_drawable(value)
        ]
        line = "" if self.line is None else f"; {self.line_label or 'line'} at {self.line:.4g}"
        return f"Bar chart of {self.x or 'values'}: {', '.join(parts)}{line}."


@dataclass(frozen=True)
class Scatter(Block):
    """Points in a plane whose two axes have the same scale.

    Args:
        groups: name -> points (x, y); groups differ by colour and by marker.
        x: label of the horizontal axis.
        y: label of the vertical axis.
        caption: the line below.
    """

    groups: Mapping[str, Sequence[tuple[float, float]]]
    x: str = ""
    y: str = ""
    caption: str = ""
    kind: ClassVar[str] = "scatter"

    def __post_init__(self) -> None:
        if not any(
            is_drawable(x) and is_drawable(y) for points in self.groups.values() for x, y in points
        ):
            raise InvalidInput("a scatter plot has no points")

    @property
    def alt(self) -> str:
        """The chart in one sentence: how many points, and how far they reach."""
        parts = []
        for name, points in self.groups.items():
            if points:
                xs, ys = zip(*points, strict=True)
                parts.append(
                    f"{name} (n = {len(points)}) from {min(xs):.3g} to {max(xs):.3g} and "
                    f"{min(ys):.3g} to {max(ys):.3g}"
                )
        return f"Scatter plot of {self.x or 'x'} and {self.y or 'y'}: {'; '.join(parts)}."


Chart = Curve | Dots | Bars | Scatter
"""What `doorward.reporting.charts.draw` draws."""


def is_drawable(value: float | None) -> bool:
    """Whether a value is a finite number."""
    return value is not None and math.isfinite(value)
