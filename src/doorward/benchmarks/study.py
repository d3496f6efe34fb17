"""What a study is: a name, a version, a grid for each tier, and a function that measures a cell.

>>> cell = Cell(study="s", version=1, tier="quick", method="m", setting="a", seed=0, options={})
>>> cell.label, len(cell.digest())
('m, a, seed 0', 64)

The digest of a cell covers the study's version and every option of the cell (recipes included), so
a changed study or recipe makes its old rows void, and nothing else does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass as plain_dataclass
from dataclasses import field
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput, UnknownName
from doorward.records import STRICT, Record
from doorward.registry import Registry

__all__ = ["STUDIES", "TIERS", "Cell", "Grid", "Metric", "Outcome", "Study", "Tier", "study"]

Tier = Literal["quick", "cpu", "paper"]
TIERS: tuple[Tier, ...] = ("quick", "cpu", "paper")
Value = bool | int | float | str | None
Name = Annotated[str, Field(min_length=1, max_length=200)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cell(Record):
    """One measurement to make.

    Args:
        study: name of the study.
        version: of the study; raised when its function comes to measure something else.
        tier: quick, cpu or paper.
        method: what is measured.
        setting: on what.
        seed: of everything random in it.
        options: all numbers that decide the outcome, JSON-ready; the setting's, from the grid.
    """

    study: Name
    version: int
    tier: Name
    method: Name
    setting: Name
    seed: int
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """The cell in a few words."""
        return f"{self.method}, {self.setting}, seed {self.seed}"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Grid(Record):
    """The cells of a study in one tier: every method in every setting with every seed.

    Args:
        methods: names.
        settings: name -> options of its cells, JSON-ready.
        seeds: how many seeds by default, counted from 0.
        shrinks: what is smaller here than in the paper's setting, in plain words.
        only: setting -> the methods that it is run with, where it is not run with all.
    """

    methods: tuple[Name, ...] = Field(min_length=1)
    settings: dict[Name, dict[str, Any]] = Field(min_length=1)
    seeds: Annotated[int, Field(ge=1)] = 1
    shrinks: str = ""
    only: dict[Name, tuple[Name, ...]] = Field(default_factory=dict)

    def __post_init__(self) -> None:
        for setting, methods in self.only.items():
            for name, known in ((setting, self.settings), *((m, self.methods) for m in methods)):
                if name not in known:
                    raise UnknownName.of("method or setting of the grid", name, list(known))


@plain_dataclass(frozen=True)
class Metric:
    """A number that a study measures, and how it is shown.

    Args:
        name: key in the row's metrics.
        title: column title.
        kind: ``"number"``, ``"percent"`` (a share in [0, 1]), ``"ratio"`` (shown with a times
            sign), ``"log2"`` (shown as a power of two) or ``"yesno"``.
        better: which direction is better, for readers; None if neither.
        plot: draw it.
    """

    name: str
    title: str
    kind: Literal["number", "percent", "ratio", "log2", "yesno"] = "number"
    better: Literal["higher", "lower"] | None = None
    plot: bool = False


@plain_dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a study's function returns when bare metrics are not enough.

    Args:
        metrics: name -> finite number, truth value, text or None.
        strength: of the trigger, where there is one (`triggers.Trigger.strength`, as a dict).
        note: anything a reader of the row should know.
    """

    metrics: Mapping[str, Value]
    strength: Mapping[str, float] | None = None
    note: str = ""


@plain_dataclass(frozen=True, kw_only=True)
class Study:
    """A registered study; made by the decorator `study`."""

    name: str
    version: int
    title: str
    question: str
    grid: Callable[[str], Grid]
    metrics: tuple[Metric, ...]
    measure: Callable[[Cell], Mapping[str, Value] | Outcome]
    prepare: Callable[[Grid], None] | None = None
    notes: str = ""
    module: str = field(default="")
    file: str = field(default="")

    def cells(self, tier: str, seeds: range | list[int] | None = None) -> list[Cell]:
        """The cells of a tier, in the order in which they are run.

        Seeds come first, then settings, then methods: a run that is stopped early has compared
        all methods on some seeds, not some methods on all seeds.
        """
        grid = self.grid_of(tier)
        return [
            Cell(
                study=self.name,
                version=self.version,
                tier=tier,
                method=method,
                setting=setting,
                seed=seed,
                options=options,
            )
            for seed in (seeds if seeds is not None else range(grid.seeds))
            for setting, options in grid.settings.items()
            for method in grid.methods
            if method in grid.only.get(setting, grid.methods)
        ]

    def grid_of(self, tier: str) -> Grid:
        """The grid of a tier.

        Raises:
            UnknownName: there is no such tier.
        """
        if tier not in TIERS:
            raise UnknownName.of("tier", tier, TIERS)
        return self.grid(tier)


STUDIES: Registry[Study] = Registry("study")


def study(
    name: str,
    *,
    version: int,
    title: str,
    question: str,
    grid: Callable[[str], Grid],
    metrics: tuple[Metric, ...],
    prepare: Callable[[Grid], None] | None = None,
    notes: str = "",
) -> Callable[
    [Callable[[Cell], Mapping[str, Value] | Outcome]],
    Callable[[Cell], Mapping[str, Value] | Outcome],
]:
    """Decorator that registers a function of a cell as a study.

    Args:
        name: on the command line and in file names: lower case, digits, hyphens.
        version: raise it when the function changes what it measures; old rows are then void.
        title: heading of its page.
        question: what it answers, in one plain sentence.
        grid: tier -> `Grid`; called only when the study is run, so it may import.
        metrics: what is shown, in column order; others are stored all the same.
        prepare: called once before the first cell; raises if data or packages are missing.
        notes: how to read the numbers, for the page.

    Raises:
        InvalidInput: the name cannot be a file name, or is taken.
    """
    if not name or name.strip("abcdefghijklmnopqrstuvwxyz0123456789-"):
        raise InvalidInput(f"{name!r} is no name for a study", remedy="use a-z, 0-9 and hyphens")

    def file(
        measure: Callable[[Cell], Mapping[str, Value] | Outcome],
    ) -> Callable[[Cell], Mapping[str, Value] | Outcome]:
        entry = Study(
            name=name,
            version=version,
            title=title,
            question=question,
            grid=grid,
            metrics=metrics,
            measure=measure,
            prepare=prepare,
            notes=notes,
            module=measure.__module__,
            file=inspect.getsourcefile(measure) or "",
        )
        STUDIES.register(name, version=version)(entry)
        return measure

    return file
