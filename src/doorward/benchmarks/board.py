"""Run a study: the missing cells only, each saved the moment it is finished.

>>> command("training-speed", "cpu", seeds=3)
'doorward bench run training-speed --tier cpu --seeds 3'
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from doorward.benchmarks.engines import ENGINES
from doorward.benchmarks.results import Entry, Failure, Store, StudyResult
from doorward.benchmarks.study import STUDIES, Cell, Study
from doorward.errors import InvalidInput

__all__ = ["command", "run"]


def run(
    study: str | Study,
    tier: str,
    *,
    seeds: int | None = None,
    engine: str = "local",
    out: str | os.PathLike[str] = "benchmarks/results",
    progress: bool = False,
    on_cell: Callable[[Cell, Entry], None] | None = None,
) -> StudyResult:
    """Measure the cells of a study that have no row yet.

    A cell has a row if one with its digest is in ``OUT/STUDY-TIER.json`` or among the cells that a
    killed run left behind. Rows of other methods, settings, recipes or study versions are void and
    dropped; rows of more seeds than asked for stay. Failed cells are tried again.

    Args:
        study: a name in `STUDIES`, or a study.
        tier: ``"quick"``, ``"cpu"`` or ``"paper"``.
        seeds: how many, from 0; None for the tier's own number.
        engine: ``"local"`` (a fresh process per cell), ``"inline"`` (this process) or ``"ray"``.
        out: folder of the results.
        progress: draw a progress bar with the time left on stderr.
        on_cell: called with each finished cell and its row or failure.

    Returns:
        The result as written, with old and new rows, and the failures.

    Raises:
        UnknownName: no such study, tier or engine.
        InvalidInput: `seeds` is below 1.
        MissingData, MissingDependency: the study lacks something; said before the first cell.
        BadFile: the result file is damaged; it is left as it is.
        StorageFailed: a result could not be written.
    """
    entry = STUDIES[study] if isinstance(study, str) else study
    grid = entry.grid_of(tier)
    start = ENGINES[engine]
    if seeds is not None and seeds < 1:
        raise InvalidInput(f"{seeds} seeds are too few", remedy="ask for at least 1")
    wanted = list(range(seeds or grid.seeds))
    store = Store(out, entry.name, tier)
    before = store.read()
    present = {row.cell for row in before.rows}
    missing = [cell for cell in entry.cells(tier, wanted) if cell.digest() not in present]
    if missing and entry.prepare is not None:
        entry.prepare(grid)
    try:
        with _progress(entry, tier, len(missing), enabled=progress) as show:
            for cell, finished, environment in start(entry, missing):
                store.save(finished, environment)
                show(cell, finished)
                if on_cell is not None:
                    on_cell(cell, finished)
    finally:
        # Ctrl-C too leaves a result with all that was finished.
        result = replace(
            store.read(),
            version=entry.version,
            command=command(entry.name, tier, seeds=seeds, engine=engine),
            seeds=wanted,
            shrinks=grid.shrinks,
        )
        every_seed = sorted({*wanted, *(row.seed for row in result.rows)})
        if result.rows or result.failures:
            result = store.fold(result, entry.cells(tier, every_seed))
    return result


def command(study: str, tier: str, *, seeds: int | None = None, engine: str = "local") -> str:
    """The command line that repeats a run."""
    words = f"doorward bench run {study} --tier {tier}"
    words += f" --seeds {seeds}" if seeds is not None else ""
    return words + (f" --engine {engine}" if engine != "local" else "")


@contextmanager
def _progress(
    study: Study, tier: str, total: int, *, enabled: bool
) -> Iterator[Callable[[Cell, Entry], None]]:
    if not enabled:
        yield lambda cell, finished: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{study.name} ({tier})", total=total)

        def show(cell: Cell, finished: Entry) -> None:
            word = "failed" if isinstance(finished, Failure) else "done"
            bar.console.print(f"{word}: {cell.label} ({finished.seconds:.1f} s)", markup=False)
            bar.advance(task)

        yield show
