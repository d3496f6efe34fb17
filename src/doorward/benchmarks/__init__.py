"""The board: experiments over grids of method x setting x seed, resumable, rendered as pages.

A study is a registered function that measures one cell of its grid:

    @study(
        "arithmetic",
        version=1,
        title="Arithmetic",
        question="Which is larger, the sum or the product?",
        grid=lambda tier: Grid(methods=("add", "multiply"), settings={"three": {"n": 3}}, seeds=2),
        metrics=(Metric("value", "Value", better="higher"),),
    )
    def arithmetic(cell):
        n = cell.options["n"] + cell.seed
        return {"value": n + n if cell.method == "add" else n * n}

`run` measures the cells that are missing, saves each the moment it is finished, and writes
``STUDY-TIER.json``; killed at any time, the same call goes on where it was. `report` renders all
results in a folder as markdown pages and one HTML board::

    result = run("arithmetic", "quick")
    report("benchmarks/results", "docs/benchmarks")

The studies that come with Doorward:

>>> {"training-accuracy", "training-speed", "watermark-basic"} <= set(STUDIES)
True

Tiers: ``quick`` (digits, minutes, runs in tests), ``cpu`` (CIFAR-10, at most about an hour on two
cores), ``paper`` (the paper's own setting, for a GPU). On the command line: ``doorward bench
list``, ``doorward bench run STUDY --tier cpu``, ``doorward bench report``.
"""

# Importing a study files it in STUDIES.
from doorward.benchmarks import studies as _studies  # noqa: F401
from doorward.benchmarks.board import command, run
from doorward.benchmarks.engines import ENGINES
from doorward.benchmarks.pages import report
from doorward.benchmarks.results import Failure, Row, StudyResult, load_results
from doorward.benchmarks.study import (
    STUDIES,
    TIERS,
    Cell,
    Grid,
    Metric,
    Outcome,
    Study,
    study,
)
from doorward.benchmarks.summary import Summary, summarise

__all__ = [
    "ENGINES",
    "STUDIES",
    "TIERS",
    "Cell",
    "Failure",
    "Grid",
    "Metric",
    "Outcome",
    "Row",
    "Study",
    "StudyResult",
    "Summary",
    "command",
    "load_results",
    "report",
    "run",
    "study",
    "summarise",
]
