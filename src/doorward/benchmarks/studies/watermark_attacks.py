"""Study `watermark-attacks`: what is left of each kind of mark after every known attack.

    doorward bench run watermark-attacks --tier cpu

After section 5 of Adi et al. (2018) and the removal attacks of the work since. A row is one
embedding under one family of attacks; all attacks of the family are in its numbers.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import recipe_of, require_data
from doorward.benchmarks.studies.victims import marked_model, parties
from doorward.benchmarks.studies.watermark_functionality import METHODS, scale
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import load
from doorward.watermark.suite import FAMILIES, AttackRow, Thief, attack_table, standard_attacks

__all__ = ["AFFORDABLE", "GOALS", "watermark_attacks"]

AFFORDABLE = 2.0
"""Points of accuracy that an attacker is taken to be ready to lose."""

GOALS = {"extraction": -20.0, "distillation": -20.0}
"""log2 of the p-value that is asked for: 1e-6 after copying, 1e-9 after everything else."""
_GOAL = -30.0


def _grid(tier: str) -> Grid:
    name, options, seeds, shrinks = scale(tier)
    numbers: dict[str, Any] = {
        "quick": {
            "epochs": 2.0, "rates": [1e-3, 1e-2], "mask_steps": 30, "images": 400, "copy": 5.0,
            "budget": 400, "shares": [1.0], "test": 300,
        },
        "cpu": {
            "epochs": 2.0, "rates": [1e-3, 1e-2, 5e-2], "mask_steps": 200, "images": 10_000,
            "copy": 4.0, "budget": 20_000, "shares": [1.0, 0.2], "test": 5_000,
        },
        "paper": {
            "epochs": 20.0, "rates": [1e-4, 1e-3, 1e-2, 5e-2], "mask_steps": 2000,
            "images": 20_000, "copy": 60.0, "budget": 20_000, "shares": [1.0, 0.2, 0.05],
            "test": 10_000,
        },
    }[tier]  # fmt: skip
    if tier == "cpu":
        shrinks += (
            " Attacks have 10,000 images and 2 epochs instead of 20, ANP 200 steps instead of "
            "2,000, copies 4 epochs (extraction asks about all 20,000). Accuracy is on 5,000 "
            "test images."
        )
    return Grid(
        methods=METHODS,
        settings={
            f"{family}; {name}": {**options, "attack": {**numbers, "family": family}}
            for family in FAMILIES
        },
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "watermark-attacks",
    version=1,
    title="Watermark: what each mark withstands",
    question="After every known way to remove a mark, can the owner still prove it?",
    grid=_grid,
    prepare=require_data,
    notes="For each family the weakest proof among its attacks that cost at most 2 points of "
    "accuracy, and which attack that was. The owner asks about the triggers alone and blended "
    "into 16 test images each; of the two the stronger proof counts, with its p-value doubled. "
    "The goal is p ≤ 1e-9 (2⁻³⁰), after distillation and extraction p ≤ 1e-6 (2⁻²⁰). Every "
    "attack's own numbers are in the JSON file.",
    metrics=(
        Metric("worst_log2_p", "Weakest proof", "log2"),
        Metric("goal_met", "Goal met", "yesno"),
        Metric("worst_matches", "Triggers matched there", "percent", "higher", plot=True),
        Metric("worst_attack", "By"),
        Metric("worst_cost", "Cost there (points)"),
        Metric("accuracy", "Accuracy before", "percent"),
        Metric("matches", "Triggers matched before", "percent"),
    ),
)
def watermark_attacks(cell: Cell) -> Outcome:
    """Attack the cell's marked model by every attack of the cell's family."""
    who = parties(cell)
    victim = marked_model(cell, who.owner, cell.method)
    numbers = cell.options["attack"]
    family = numbers["family"]
    recipe = recipe_of(cell, epochs=numbers["copy"])
    copied = family in {"distillation", "extraction"}
    held = who.thief if copied else who.thief.sample(numbers["images"], seed=cell.seed)
    thief = Thief(
        data=held,
        recipe=recipe,
        other=load("digits") if family == "transfer" else None,
        seed=cell.seed,
    )
    attacks = standard_attacks(
        families=[family],
        epochs=numbers["epochs"],
        rates=numbers["rates"],
        shares=numbers["shares"],
        augment=recipe.augment,
        budget=numbers["budget"],
        mask_steps=numbers["mask_steps"],
    )
    test = who.test.sample(min(numbers["test"], len(who.test)), seed=0)
    table = attack_table(victim.model, victim.key, thief, test, attacks, carriers=test)
    untouched, *rows = table.rows
    cheap = [row for row in rows if row.cost is None or row.cost <= AFFORDABLE]
    worst = max(cheap, key=lambda row: row.proof, default=None)
    goal = GOALS.get(family, _GOAL)
    metrics: dict[str, Any] = {
        "accuracy": untouched.accuracy,
        "matches": untouched.trigger_accuracy,
        "goal_met": (worst or untouched).survived(goal),
        "worst_log2_p": None if worst is None else worst.proof,
        "worst_matches": None if worst is None else worst.trigger_accuracy,
        "worst_attack": "none is affordable" if worst is None else worst.attack.label,
        "worst_cost": None if worst is None else worst.cost,
    }
    for row in rows:
        metrics |= _details(row)
    return Outcome(metrics=metrics)


def _details(row: AttackRow) -> dict[str, Any]:
    label = row.attack.label
    return {
        f"{label} | accuracy": row.accuracy,
        f"{label} | matches": row.trigger_accuracy,
        f"{label} | log2_p": row.log2_p,
        f"{label} | blended_log2_p": row.blended_log2_p,
        f"{label} | seconds": row.seconds,
    }
