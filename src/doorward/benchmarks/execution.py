"""Measure one cell: call the study's function, with time, memory and errors recorded.

>>> from doorward.benchmarks import Cell
>>> cell = Cell(study="training-accuracy", version=0, tier="quick", method="m", setting="s",
...             seed=0, options={})
>>> entry, environment = execute(cell, lambda cell: {"answer": 42}, engine="inline")
>>> entry.metrics, entry.seconds < 5
({'answer': 42}, True)
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import math
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from doorward.benchmarks.results import Entry, Failure, Row, environment_key
from doorward.benchmarks.study import STUDIES, Cell, Outcome, Study, Value
from doorward.errors import InvalidInput, TrainingInterrupted
from doorward.records import environment, measure

__all__ = ["execute", "failed", "find_study"]


def execute(
    cell: Cell, function: Callable[[Cell], Mapping[str, Value] | Outcome], *, engine: str
) -> tuple[Entry, dict[str, Any]]:
    """Measure a cell in this process.

    Args:
        cell: what to measure.
        function: the study's.
        engine: noted in the row.

    Returns:
        A `Row`, or a `Failure` if the function raised; and the environment.

    Raises:
        TrainingInterrupted, KeyboardInterrupt: the user wants to stop; that is no failure.
    """
    gc.collect()  # what an earlier cell in this process left is not this cell's memory
    begun = time.perf_counter()
    try:
        with measure() as meter:
            outcome = function(cell)
        if not isinstance(outcome, Outcome):
            outcome = Outcome(metrics=outcome)
        return (
            Row(
                **_identity(cell, engine),
                metrics=_checked(outcome.metrics),
                seconds=meter.seconds,
                peak_memory_mib=meter.peak_memory_mib,
                strength=None if outcome.strength is None else dict(outcome.strength),
                note=outcome.note,
            ),
            environment(),
        )
    except TrainingInterrupted:
        raise
    except Exception as error:  # a failing cell must not take the other cells with it
        last = traceback.extract_tb(error.__traceback__)[-1]
        return failed(
            cell,
            f"{type(error).__name__}: {error}",
            engine=engine,
            seconds=time.perf_counter() - begun,
            where=f"{Path(last.filename).name}:{last.lineno} in {last.name}",
        )


def failed(
    cell: Cell, error: str, *, engine: str, seconds: float, where: str = ""
) -> tuple[Failure, dict[str, Any]]:
    """The record of a cell that could not be measured."""
    return (
        Failure(**_identity(cell, engine), error=error[:2000], where=where, seconds=seconds),
        environment(),
    )


def find_study(name: str, module: str, file: str) -> Study:
    """The study `name` in a fresh process: import its module, or run its file.

    Raises:
        UnknownName: neither registers it.
    """
    if name in STUDIES:
        return STUDIES[name]
    try:
        if module == "__main__":
            raise ImportError
        importlib.import_module(module)
    except ImportError:
        # A script, or a module of a test: not importable by name, but its file is known.
        spec = importlib.util.spec_from_file_location("doorward_study", file)
        if spec is not None and spec.loader is not None and Path(file).is_file():
            loaded = importlib.util.module_from_spec(spec)
            sys.modules["doorward_study"] = loaded
            spec.loader.exec_module(loaded)
    return STUDIES[name]


def _identity(cell: Cell, engine: str) -> dict[str, Any]:
    return {
        "method": cell.method,
        "setting": cell.setting,
        "seed": cell.seed,
        "cell": cell.digest(),
        "engine": engine,
        "environment": environment_key(environment()),
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _checked(metrics: Mapping[str, Value]) -> dict[str, Value]:
    for name, value in metrics.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(
                f"the metric {name!r} is {value}",
                why="only finite numbers can be stored and averaged",
                remedy="leave it None where it has no value",
            )
    return dict(metrics)
