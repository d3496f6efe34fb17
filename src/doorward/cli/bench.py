"""``doorward bench``: the board of experiments.

::

    doorward bench list
    doorward bench run watermark-basic --tier quick
    doorward bench report --html board.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer, note, table

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Run the studies, and render their results.",
    epilog="Example: doorward bench run watermark-basic --tier quick",
)

Results = Annotated[Path, typer.Option(help="Folder of the results.")]
RESULTS = Path("benchmarks/results")


@group.command("list", epilog="Example: doorward bench list")
def list_studies(as_json: Json = False) -> None:
    """List the studies and their tiers."""
    from doorward.benchmarks import STUDIES, TIERS

    studies = []
    for name in STUDIES:
        found = STUDIES[name]
        cells = {tier: len(found.cells(tier)) for tier in TIERS}
        studies.append({"name": name, "question": found.question, "cells": cells})
    rows = [
        [
            str(entry["name"]),
            *(str(found.cells(tier).__len__()) for tier in TIERS),
            str(entry["question"]),
        ]
        for entry, found in zip(studies, (STUDIES[name] for name in STUDIES), strict=True)
    ]
    answer(
        {"studies": studies},
        as_json=as_json,
        lines=[
            table(["study", *TIERS, "question"], rows),
            "",
            "The numbers are the cells (method x setting x seed) of each tier.",
        ],
    )


def _complete_study(incomplete: str) -> list[str]:
    from doorward.benchmarks import STUDIES

    return [name for name in STUDIES if name.startswith(incomplete)]


@group.command(epilog="Example: doorward bench run watermark-basic --tier quick --seeds 2")
def run(
    study: Annotated[str, typer.Argument(help="A study.", autocompletion=_complete_study)],
    tier: Annotated[
        str, typer.Option(help="quick (minutes), cpu (about an hour), paper (a GPU).")
    ] = "quick",
    seeds: Annotated[
        int | None,
        typer.Option(help="Seeds, from 0. Default: the tier's own.", min=1, show_default=False),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local (a process per cell), inline (this process) or ray.")
    ] = "local",
    out: Results = RESULTS,
    as_json: Json = False,
) -> None:
    """Measure the cells of a study that are missing; stopped or killed, it goes on where it was.

    The exit code is 1 if some cells failed; they are tried again next time.
    """
    from doorward.benchmarks import run as run_study

    result = run_study(study, tier, seeds=seeds, engine=engine, out=out, progress=True)
    for failure in result.failures:
        note(f"failed: {failure.method}, {failure.setting}, seed {failure.seed}: {failure.error}")
    lines = [f"{len(result.rows)} rows in {out / f'{study}-{tier}.json'}"]
    if result.failures:
        lines.append(f"{len(result.failures)} cells failed")
    answer(result.to_dict(), as_json=as_json, lines=lines, yes=not result.failures)


@group.command(epilog="Example: doorward bench report --pages docs/benchmarks")
def report(
    results: Results = RESULTS,
    pages: Annotated[Path, typer.Option(help="Folder for the pages and board.html.")] = Path(
        "docs/benchmarks"
    ),
    as_json: Json = False,
) -> None:
    """Render all results as pages with tables and plots, and as one HTML board."""
    from doorward.benchmarks import report as render

    written = render(results, pages)
    answer(
        {"written": [str(path) for path in written]},
        as_json=as_json,
        lines=[str(path) for path in written if path.suffix != ".svg"],
    )
