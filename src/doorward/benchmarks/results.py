"""What a study leaves on disk: rows, failures, and the environments they were made in.

``STUDY-TIER.json`` holds the result. While a study runs, each finished cell is a file of its own
under ``.cells/STUDY-TIER/``, renamed into place whole; they are folded into the result at the end
of the run, or of the next one if this one is killed.

>>> import tempfile
>>> store = Store(tempfile.mkdtemp(), "training-speed", "quick")
>>> store.path.name, store.read().rows
('training-speed-quick.json', [])
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.benchmarks.study import Cell, Name
from doorward.errors import BadFile, DoorwardError, InvalidInput
from doorward.files import canonical_json, read_json, write_json
from doorward.records import STRICT, Record

__all__ = [
    "Entry",
    "Failure",
    "Row",
    "Store",
    "StudyResult",
    "load_results",
    "pack_entry",
    "parse_entry",
]

Finite = Annotated[float, Field(allow_inf_nan=False)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Row(Record):
    """One measured cell.

    Attributes:
        method, setting, seed: the cell.
        metrics: what was measured.
        seconds: wall-clock time of the whole cell.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) while it ran.
        strength: of the trigger, where there is one.
        note: what a reader of the row should know.
        environment: key in the result's `environments`.
        engine: how it was run; ``inline`` rows share a process, so their memory is an upper bound.
        made: when it was finished, UTC.
        cell: digest of the cell.
    """

    method: Name
    setting: Name
    seed: int
    metrics: dict[str, bool | int | Finite | str | None]
    seconds: Finite
    peak_memory_mib: Finite
    strength: dict[str, Finite] | None = None
    note: str = ""
    environment: str
    engine: str
    made: str
    cell: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Failure(Record):
    """A cell that could not be measured; it is tried again by the next run.

    Attributes:
        error: kind and message.
        where: file and line that raised it, if known.
    """

    method: Name
    setting: Name
    seed: int
    error: str
    where: str = ""
    seconds: Finite
    environment: str
    engine: str
    made: str
    cell: Digest


Entry = Row | Failure


def pack_entry(entry: Entry, environment: dict[str, Any]) -> dict[str, Any]:
    """A finished cell as JSON-ready builtins."""
    kind = "row" if isinstance(entry, Row) else "failure"
    return {kind: entry.to_dict(), "environment": environment}


def parse_entry(content: dict[str, Any]) -> tuple[Entry, dict[str, Any]]:
    """The way back from `pack_entry`.

    Raises:
        InvalidInput, KeyError: it is something else.
    """
    environment = dict(content["environment"])
    if "row" in content:
        return Row.from_dict(content["row"]), environment
    return Failure.from_dict(content["failure"]), environment


@dataclass(frozen=True, kw_only=True, config=STRICT)
class StudyResult(Record):
    """All rows of a study in one tier.

    Attributes:
        command: repeats it.
        seeds: the seeds of the last run; rows may hold more.
        shrinks: what the tier makes smaller than the paper's setting.
        environments: key -> versions and hardware; more than one means rows that are not to be
            compared for speed.
    """

    format: Literal["doorward/study-result/1"] = "doorward/study-result/1"
    study: Name
    version: int
    tier: Name
    command: str
    seeds: list[int]
    shrinks: str
    rows: list[Row]
    failures: list[Failure]
    environments: dict[str, dict[str, Any]]


def environment_key(environment: dict[str, Any]) -> str:
    """Short name of an environment: equal for equal versions and hardware."""
    return hashlib.sha256(canonical_json(environment)).hexdigest()[:8]


class Store:
    """The files of one study and tier.

    Args:
        folder: of the results, e.g. ``benchmarks/results``.
        study: name.
        tier: name.
    """

    def __init__(self, folder: str | os.PathLike[str], study: str, tier: str) -> None:
        self.path = Path(folder) / f"{study}-{tier}.json"
        self.cells = Path(folder) / ".cells" / f"{study}-{tier}"
        self._empty = StudyResult(
            study=study,
            version=0,
            tier=tier,
            command="",
            seeds=[],
            shrinks="",
            rows=[],
            failures=[],
            environments={},
        )

    def save(self, entry: Entry, environment: dict[str, Any]) -> None:
        """Keep one finished cell: whole on disk, or not at all."""
        write_json(self.cells / f"{entry.cell}.json", pack_entry(entry, environment))

    def read(self) -> StudyResult:
        """The result file and all cells that are not folded into it yet.

        Raises:
            BadFile: the result file is damaged, or none of ours. It is never overwritten then.
        """
        result = read_result(self.path) if self.path.exists() else self._empty
        rows = {row.cell: row for row in result.rows}
        failures = {failure.cell: failure for failure in result.failures}
        environments = dict(result.environments)
        for file in sorted(self.cells.glob("*.json")):
            try:
                content = read_json(file)
                entry, environment = parse_entry(content)
            except (DoorwardError, KeyError, TypeError, ValueError):
                continue  # an unreadable cell is a missing cell: it is measured again
            environments[entry.environment] = environment
            if isinstance(entry, Row):
                rows[entry.cell] = entry
            else:
                failures[entry.cell] = entry
        left = [failure for digest, failure in failures.items() if digest not in rows]
        return replace(result, rows=list(rows.values()), failures=left, environments=environments)

    def fold(self, result: StudyResult, cells: Iterable[Cell]) -> StudyResult:
        """Write `result` with what belongs to `cells`, in their order, and drop the cell files."""
        order = {cell.digest(): number for number, cell in enumerate(cells)}
        rows = sorted((r for r in result.rows if r.cell in order), key=lambda r: order[r.cell])
        failures = sorted(
            (f for f in result.failures if f.cell in order), key=lambda f: order[f.cell]
        )
        used = {row.environment for row in rows} | {f.environment for f in failures}
        kept = {key: value for key, value in sorted(result.environments.items()) if key in used}
        result = replace(result, rows=rows, failures=failures, environments=kept)
        write_json(self.path, result.to_dict())
        shutil.rmtree(self.cells, ignore_errors=True)
        return result


def read_result(path: str | os.PathLike[str]) -> StudyResult:
    """Read one ``STUDY-TIER.json``.

    Raises:
        MissingData: there is no such file.
        BadFile: it is damaged, or not a study's result.
    """
    content = read_json(path)
    try:
        return StudyResult.from_dict(content)
    except (InvalidInput, TypeError, ValueError) as error:
        raise BadFile(
            f"{path} is not a study's result",
            why=str(error),
            remedy="restore it, or move it away and run the study again",
        ) from error


def load_results(folder: str | os.PathLike[str]) -> list[StudyResult]:
    """All results in a folder, by study and tier, unfinished runs included.

    Raises:
        BadFile: a file is damaged; the message names it.
    """
    folder = Path(folder)
    names = {path.stem for path in folder.glob("*.json")}
    names |= {path.name for path in (folder / ".cells").glob("*") if path.is_dir()}
    results = (Store(folder, *name.rsplit("-", 1)).read() for name in sorted(names) if "-" in name)
    return [result for result in results if result.rows or result.failures]
