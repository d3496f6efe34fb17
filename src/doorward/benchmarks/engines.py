"""Where cells run: each in a fresh process (local), in this one (inline), or on a Ray cluster.

>>> ENGINES.names()
['inline', 'local', 'ray']

A fresh process per cell makes the numbers fair: no cell inherits another's memory, caches or warm
threads, and one that is killed for its memory takes nothing with it.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from doorward.benchmarks.execution import execute, failed, find_study
from doorward.benchmarks.results import Entry, pack_entry, parse_entry
from doorward.benchmarks.study import Cell, Study
from doorward.errors import MissingDependency
from doorward.registry import Registry

__all__ = ["ENGINES", "Engine", "Finished"]

Finished = tuple[Cell, Entry, dict[str, Any]]
Engine = Callable[[Study, Sequence[Cell]], Iterator[Finished]]
ENGINES: Registry[Engine] = Registry("engine")


@ENGINES.register("inline")
def inline(study: Study, cells: Sequence[Cell]) -> Iterator[Finished]:
    """One cell after another in this process: quickest to start, for tests and debugging."""
    for cell in cells:
        yield cell, *execute(cell, study.measure, engine="inline")


@ENGINES.register("local")
def local(study: Study, cells: Sequence[Cell]) -> Iterator[Finished]:
    """One cell after another, each in a fresh process of this machine."""
    for cell in cells:
        yield cell, *_in_process(study, cell)


@ENGINES.register("ray")
def ray(study: Study, cells: Sequence[Cell]) -> Iterator[Finished]:
    """Cells as Ray tasks, each in a fresh worker, as many at a time as the cluster has room for.

    Connects to ``RAY_ADDRESS`` if it is set, else starts Ray on this machine. A cell takes as many
    CPUs as torch has threads here (and one GPU where the cluster has GPUs), so that cells on one
    machine do not slow each other down.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray as cluster
    except ImportError:
        raise MissingDependency.of("ray", "ray", "run studies on a cluster") from None
    import torch

    begun = not cluster.is_initialized()
    if begun:
        cluster.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        there: dict[str, float] = cluster.cluster_resources()  # type: ignore[no-untyped-call]
        threads = max(1, min(torch.get_num_threads(), int(there.get("CPU", 1))))
        task = cluster.remote(
            num_cpus=threads,
            num_gpus=1 if there.get("GPU") else 0,
            max_calls=1,  # a fresh worker per cell
            max_retries=0,
        )(_ray_task)
        place = (study.name, study.module, study.file)
        waiting = {task.remote(cell.to_dict(), place, threads): cell for cell in cells}
        started = time.perf_counter()
        while waiting:
            (done,), _ = cluster.wait(list(waiting), num_returns=1)
            cell = waiting.pop(done)
            try:
                yield cell, *parse_entry(json.loads(cluster.get(done)))
            except cluster.exceptions.RayError as error:
                reason = f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"
                seconds = time.perf_counter() - started
                yield cell, *failed(cell, reason, engine="ray", seconds=seconds)
    finally:
        if begun:
            cluster.shutdown()


def _ray_task(content: dict[str, Any], place: tuple[str, str, str], threads: int) -> str:
    import torch

    torch.set_num_threads(threads)
    return measure_as_json(Cell.from_dict(content), place, "ray")


def measure_as_json(cell: Cell, place: tuple[str, str, str], engine: str) -> str:
    """What another process does with a cell; the way back is JSON."""
    return json.dumps(pack_entry(*execute(cell, find_study(*place).measure, engine=engine)))


def _in_process(study: Study, cell: Cell) -> tuple[Entry, dict[str, Any]]:
    request = {"cell": cell.to_dict(), "place": [study.name, study.module, study.file]}
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="doorward-cell-") as folder:
        asked, answered, said = (Path(folder) / name for name in ("ask", "answer", "stderr"))
        asked.write_text(json.dumps(request), encoding="utf-8")
        command = [sys.executable, "-m", "doorward.benchmarks.worker", str(asked), str(answered)]
        with said.open("wb") as stderr:
            child = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                command,
                stdin=subprocess.PIPE,  # stays open as long as we live; its end stops the worker
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,  # Ctrl-C reaches us alone; we stop the worker
            )
            try:
                code = child.wait()
            finally:
                _stop(child)
        if code == 0 and answered.is_file():
            return parse_entry(json.loads(answered.read_text(encoding="utf-8")))
        words = said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return failed(
            cell,
            _why(code, words[-1] if words else ""),
            engine="local",
            seconds=time.perf_counter() - begun,
        )


def _stop(child: subprocess.Popen[bytes]) -> None:
    if child.stdin is not None:
        child.stdin.close()
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _why(code: int, last_words: str) -> str:
    if code >= 0:
        return f"the cell's process ended with status {code}: {last_words or 'it said nothing'}"
    name = signal.Signals(-code).name
    guess = "; the machine was probably out of memory" if name == "SIGKILL" else ""
    return f"the cell's process was killed by {name}{guess}"
