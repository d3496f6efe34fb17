"""Many seeds as one cell of a table: mean, spread, how many.

>>> s = summarise([0.86, 0.88, 0.87])
>>> round(s.mean, 3), round(s.std, 3), s.low, s.high, s.n
(0.87, 0.01, 0.86, 0.88, 3)
>>> show(s, Metric("a", "Accuracy", "percent")), show(summarise([0.5]), Metric("a", "A"))
('87.0 ± 1.0 %', '0.5')
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from doorward.benchmarks.results import Row
from doorward.benchmarks.study import Metric, Value
from doorward.reporting import format_value, percent, power_of_two

__all__ = ["Group", "Summary", "group_rows", "show", "show_value", "summarise"]


@dataclass(frozen=True)
class Summary:
    """Mean, sample standard deviation (None for n < 2), extremes and count."""

    mean: float
    std: float | None
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Group:
    """The rows of one setting and method in one environment."""

    setting: str
    method: str
    environment: str
    rows: tuple[Row, ...]

    def values(self, metric: str) -> list[Value]:
        """A metric of all rows; None where a row lacks it."""
        return [row.metrics.get(metric) for row in self.rows]

    def numbers(self, metric: str) -> list[float]:
        """The numbers among them."""
        return [float(v) for v in self.values(metric) if isinstance(v, int | float)]


def summarise(values: Iterable[float]) -> Summary | None:
    """Summarise numbers; None if there are none. The spread is the sample's (n - 1)."""
    numbers = [float(value) for value in values]
    if not numbers:
        return None
    spread = statistics.stdev(numbers) if len(numbers) > 1 else None
    return Summary(statistics.fmean(numbers), spread, min(numbers), max(numbers), len(numbers))


def group_rows(rows: Sequence[Row]) -> list[Group]:
    """Rows by setting, method and environment, in order of appearance, settings together.

    Rows of different environments are never averaged.
    """
    groups: dict[tuple[str, str, str], list[Row]] = {}
    settings = list(dict.fromkeys(row.setting for row in rows))
    for row in sorted(rows, key=lambda row: settings.index(row.setting)):
        groups.setdefault((row.setting, row.method, row.environment), []).append(row)
    return [Group(*key, tuple(members)) for key, members in groups.items()]


def show(summary: Summary | None, metric: Metric) -> str:
    """A summary as text: mean and standard deviation, in the metric's unit."""
    if summary is None:
        return show_value(None, metric)
    mean, std = summary.mean, summary.std
    if metric.kind == "yesno":
        return f"{round(mean * summary.n)} of {summary.n}"
    if metric.kind == "percent":
        text = percent(mean)
        return text if std is None else f"{text.removesuffix(' %')} ± {100 * std:.1f} %"
    if metric.kind == "log2":
        return power_of_two(mean)
    text = format_value(mean)
    if std is not None:
        decimals = _decimals(std)
        text = f"{mean:.{decimals}f} ± {std:.{decimals}f}" if std else f"{text} ± 0"
    return f"{text}×" if metric.kind == "ratio" else text  # noqa: RUF001 - a times sign is meant


def show_value(value: Value, metric: Metric) -> str:
    """One row's value as text."""
    if value is None or isinstance(value, str):
        return format_value(value)
    if metric.kind == "yesno":
        return format_value(bool(value))
    return show(Summary(float(value), None, float(value), float(value), 1), metric)


def _decimals(std: float) -> int:
    """As many decimals as show two digits of the spread."""
    return max(0, min(6, 1 - math.floor(math.log10(std)))) if std else 0
