"""Study `honeypot-speed`: what fitting a honeypot costs, the paper's loop against our ways.

    doorward bench run honeypot-speed --tier cpu

All in one process on one model: look-ahead, the paper's loop, look-ahead again (so that a machine
that slows down slows down both), the lean; then a copy of each.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.honeypots import copy_of, guard, options_of, success
from doorward.benchmarks.studies.victims import parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study

__all__ = ["GOAL", "honeypot_speed"]

GOAL = 5.0
"""How many times longer the paper's loop is to take, at a success that is not higher."""

_WITHIN = 0.05  # of success, that counts as equal


def _grid(tier: str) -> Grid:
    options, name, shrinks = options_of(tier)
    if tier == "cpu":
        options["faithful"] = {"shadow": "resnet8"}
        shrinks = shrinks.replace("; the paper's loop has 10 rounds instead of 30", "")
    return Grid(
        methods=("all ways in turn",),
        settings={name: options},
        seeds=1 if tier == "quick" else 3,
        shrinks=shrinks,
    )


@study(
    "honeypot-speed",
    version=1,
    title="Honeypot: speed",
    question="How long does fitting take, and how many times longer the paper's loop?",
    grid=_grid,
    prepare=require_data,
    notes="Seconds of fitting alone, on the same victim, images and threads; look-ahead is the "
    "mean of one run before the paper's loop and one after it. The paper's loop passes its images "
    "through the whole network in every epoch, as it is written. The goal is five times at equal "
    "success (within 5 points) on a copy; where the successes differ, the ratio compares unequal "
    "things, and the column says so. The paper's loop keeps no bounds.",
    metrics=(
        Metric("ratio", "Paper's / look-ahead", "ratio", "higher", plot=True),
        Metric("lean_ratio", "Paper's / lean", "ratio", "higher"),
        Metric("look_ahead_seconds", "Look-ahead (s)", "number", "lower"),
        Metric("faithful_seconds", "Paper's loop (s)", "number"),
        Metric("lean_seconds", "Lean (s)", "number", "lower"),
        Metric("look_ahead_success", "Success, look-ahead", "percent"),
        Metric("faithful_success", "paper's loop", "percent"),
        Metric("lean_success", "lean", "percent"),
        Metric("faithful_agreement", "Labels kept, paper's loop", "percent"),
        Metric("look_ahead_agreement", "look-ahead", "percent"),
        Metric("equal_success", "Equal success", "yesno"),
        Metric("goal_met", "Goal met", "yesno"),
    ),
)
def honeypot_speed(cell: Cell) -> Outcome:
    """Fit in all ways, one after the other, and copy each."""
    who = parties(cell)
    half = len(who.test) // 2
    mine, test = who.test.split(half, len(who.test) - half, seed=0)
    victim = plain_model(cell, who.owner).model
    order = ("look-ahead", "faithful", "look-ahead", "lean")
    runs = [(name, guard(cell, victim, mine, who.owner, name)) for name in order]
    metrics: dict[str, Any] = {}
    for name in dict.fromkeys(order):
        mine_runs = [guarded for run, guarded in runs if run == name]
        guarded, short = mine_runs[0], name.replace("-", "_")
        copy = copy_of(cell, guarded.model, who.thief)
        metrics |= {
            f"{short}_seconds": sum(run.seconds for run in mine_runs) / len(mine_runs),
            f"{short}_success": success(copy, test, guarded.triggers),
            f"{short}_agreement": guarded.cost.agreement,
            f"{short}_accuracy_drop": 100 * guarded.cost.accuracy_drop,
        }
    ratio = metrics["faithful_seconds"] / metrics["look_ahead_seconds"]
    equal = metrics["look_ahead_success"] >= metrics["faithful_success"] - _WITHIN
    return Outcome(
        metrics={
            **metrics,
            "ratio": ratio,
            "lean_ratio": metrics["faithful_seconds"] / metrics["lean_seconds"],
            "equal_success": equal,
            "goal_met": ratio >= GOAL and equal,
        }
    )
