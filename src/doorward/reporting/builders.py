"""Blocks made from the JSON that results carry.

>>> [curve.y for curve in training_curves([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0}])]
['loss']
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doorward.reporting.blocks import Table
from doorward.reporting.plots import Curve, is_drawable

__all__ = ["environment_table", "training_curves"]

_LABELS = {
    "doorward": "Doorward",
    "python": "Python",
    "machine": "System",
    "cpu": "Processor",
    "cpu_bf16": "bf16 in the processor",
    "threads": "Threads",
    "memory_gib": "Memory (GiB)",
    "cuda": "GPU",
}


def environment_table(environment: Mapping[str, Any], caption: str = "Environment") -> Table:
    """A table of the versions and the hardware that `doorward.records.environment` gathered.

    >>> environment_table({"python": "3.11.7", "packages": {"torch": "2.13.0"}}).rows
    [['Python', '3.11.7'], ['torch', '2.13.0']]
    """
    rows: list[list[Any]] = []
    for name, value in environment.items():
        if isinstance(value, Mapping):
            rows.extend([str(inner), str(v)] for inner, v in value.items() if v is not None)
        elif value is not None:
            shown = value if isinstance(value, bool) else str(value)
            rows.append([_LABELS.get(name, name.replace("_", " ")), shown])
    return Table(["Item", "Value"], rows, caption)


def training_curves(
    history: Sequence[Mapping[str, Any]], *, x: str = "epoch", caption: str = ""
) -> list[Curve]:
    """Line charts of a training history: one of the losses, one of the accuracies and rates.

    Args:
        history: one mapping per epoch, such as `FitResult.history`; must hold `x`.
        x: the key to draw over.
        caption: put below each chart.

    Returns:
        No chart, one or two: entries that are not finite numbers, and learning rates, times and
        speeds, are left out.
    """
    groups: dict[str, list[str]] = {"loss": [], "share": []}
    for key in dict.fromkeys(key for entry in history for key in entry):
        if "loss" in key:
            groups["loss"].append(key)
        elif any(word in key for word in ("accuracy", "success", "rate_of", "matches")):
            groups["share"].append(key)
    charts = []
    for title, keys in groups.items():
        series = {}
        for key in keys:
            points = [
                (float(entry[x]), float(entry[key]))
                for entry in history
                if _finite(entry.get(x)) and _finite(entry.get(key))
            ]
            if points:
                xs, ys = zip(*points, strict=True)
                series[key.replace("_", " ")] = (list(xs), list(ys))
        if series:
            label = title if len(series) > 1 or title == "loss" else next(iter(series))
            charts.append(Curve(series, x, label, caption))
    return charts


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and is_drawable(value)
