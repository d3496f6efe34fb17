"""The progress bar: step, epoch, live numbers, time left; on stderr, a few times a second.

>>> with progress_bar(enabled=False, steps=10, done=0) as show:
...     show(5, "epoch 1", {"loss": 0.5})
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["progress_bar"]

Show = Callable[[int, str, Mapping[str, float]], None]


@contextmanager
def progress_bar(*, enabled: bool, steps: int, done: int) -> Iterator[Show]:
    """A bar over `steps` steps of which `done` lie behind.

    Args:
        enabled: draw at all; off, the yielded function does nothing.
        steps: length of the run.
        done: steps that an earlier, interrupted part did.

    Yields:
        ``show(steps done, what is going on, live numbers)``.
    """
    if not enabled:
        yield lambda _done, _phase, _live: None
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

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[live]}"),
    )
    with Progress(*columns, console=Console(stderr=True), refresh_per_second=4) as bar:
        task = bar.add_task("training", total=steps, completed=done, live="")

        def show(now: int, phase: str, live: Mapping[str, float]) -> None:
            numbers = "  ".join(f"{name} {value:.4g}" for name, value in live.items())
            bar.update(task, completed=now, description=phase, live=numbers)

        yield show
