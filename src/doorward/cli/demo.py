"""``doorward demo``: the life of a model, from training to proof, in minutes.

::

    doorward demo --out demo-report     # then open demo-report/index.html
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Device, Json, Seed, answer, note

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: doorward demo --out demo-report")(demo)


def demo(
    out: Annotated[Path, typer.Option(help="The folder to write the report to.")] = Path(
        "demo-report"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny models: everything in seconds, nothing proven.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train, mark, prove, sign, poison: every system at work on real images, in one report.

    It needs no download and no GPU. The exit code is 1 if a promise of the report is not kept.
    """
    from doorward.demo import run_demo

    outcome = run_demo(out, seed=seed, device=device, quick=quick, say=note)
    answer(
        outcome.summary,
        as_json=as_json,
        lines=[
            "",
            *(f"NOT KEPT: {promise}" for promise in outcome.broken),
            f"Report: {out / 'index.html'}",
        ],
        yes=quick or not outcome.broken,
    )
