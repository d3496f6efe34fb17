"""Study `removal-retuning`: does a removed backdoor come back faster than a new one arrives?

    doorward bench run removal-retuning --tier cpu

After the retuning attack of Min et al. (2024, "Uncovering, Explaining, and Mitigating the
Superficial Safety of Backdoor Defense"): the repaired model is fine-tuned on a few clean images
among which a handful carry the old trigger. Ours: the clean network of the same seed is tuned by
the same images in the same order, so that what the trigger gains anyway can be told apart.
"""

from __future__ import annotations

import copy
from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import clean_model, planted_model
from doorward.benchmarks.studies.relearning import first_half, handful, relearnt
from doorward.benchmarks.studies.removal_methods import (
    NOTHING,
    PURGES,
    clean_share,
    parameters,
    treat,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.metrics import accuracy

__all__ = ["removal_retuning"]

AFTER = (NOTHING, "fine-tuning", "fst", "ft-sam", "sau", *PURGES)
"""Whose repairs are put to the test."""


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = {**task("digits", "resnet8", width=8, size=16, epochs=8.0), "target": 3}
        name, seeds, poisons = "digits 16x16", 1, [4]
        attacks: tuple[str, ...] = ("badnets",)
        tuning = {"images": 80, "epochs": 4.0, "batch_size": 20, "lr": 0.01}
        methods: tuple[str, ...] = (NOTHING, "fst", PURGES[0])
        shrinks = "One attack on digits of 16x16 pixels, three methods, a short scan."
    elif tier == "cpu":
        options = {**task("cifar10", "resnet8", width=16, epochs=5.0), "target": 0}
        attacks = ("badnets", "blend", "input-aware")
        name, seeds, poisons = "cifar10, resnet8 (width 16)", 3, [10]
        tuning = {"images": 500, "epochs": 10.0, "batch_size": 50, "lr": 0.01}
        methods = AFTER
        shrinks = (
            "ResNet-8 at half its width and 5 epochs instead of ResNet-18 and 100; three attacks, "
            "10 poisoned images; methods are cut as in the study removal-board."
        )
    else:
        options = {**task("cifar10", "preact-resnet18", epochs=100.0), "target": 0}
        attacks = ("badnets", "blend", "input-aware", "wanet-noise", "low-frequency")
        name, seeds, poisons = "cifar10, preact-resnet18", 3, [5, 10, 50]
        tuning = {"images": 1000, "epochs": 20.0, "batch_size": 50, "lr": 0.01}
        methods, shrinks = AFTER, ""
    share = 0.1 if tier == "quick" else 0.05
    return Grid(
        methods=methods,
        settings={
            f"{attack}, {count} poisoned; {name}": {
                **options,
                "attack": attack,
                "share": share,
                "poisons": count,
                "tuning": tuning,
                **parameters(tier, share),
            }
            for attack in attacks
            for count in poisons
        },
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "removal-retuning",
    version=1,
    title="Removal: after a handful of poisoned images",
    question="Does a removed backdoor come back faster than the same trigger enters a clean model?",
    grid=_grid,
    prepare=require_data,
    notes="The repaired model and a clean one are fine-tuned on the same images, a handful of "
    "which carry the old trigger and label. Head start is the mean attack success over all epochs "
    "(before the first one included) minus the clean model's: 0 means that nothing of the "
    "backdoor was left. Epochs to half is when attack success passes 50 %. All curves are in the "
    "JSON file.",
    metrics=(
        Metric("head_start", "Head start (points)", better="lower", plot=True),
        Metric("success_first", "Attack success after removal", "percent", "lower"),
        Metric("success_last", "after re-tuning", "percent", "lower"),
        Metric("clean_last", "Clean model, re-tuned alike", "percent"),
        Metric("epochs_to_half", "Epochs to half"),
        Metric("clean_epochs_to_half", "Clean model"),
        Metric("accuracy_repaired", "Accuracy after removal", "percent", "higher"),
        Metric("accuracy_last", "after re-tuning", "percent"),
    ),
)
def removal_retuning(cell: Cell) -> Outcome:
    """Repair the cell's victim, poison it once more, and compare with a clean model."""
    train, test = load_pair(cell)
    victim = planted_model(cell, train, test, cell.options["attack"])
    treated = treat(cell, cell.method, victim.model, clean_share(cell, train))
    few = handful(cell, train, victim.backdoor)
    repaired = copy.deepcopy(treated.model)
    innocent = clean_model(cell, train).model
    curve, plain = (
        relearnt(cell, model, few, victim.backdoor, test) for model in (repaired, innocent)
    )
    gained = sum(curve) / len(curve) - sum(plain) / len(plain)
    metrics: dict[str, Any] = {
        "head_start": 100 * gained,
        "success_first": curve[0],
        "success_last": curve[-1],
        "clean_first": plain[0],
        "clean_last": plain[-1],
        "epochs_to_half": first_half(curve),
        "clean_epochs_to_half": first_half(plain),
        "accuracy_repaired": accuracy(treated.model, test),
        "accuracy_last": accuracy(repaired, test),
    }
    for epoch, (one, other) in enumerate(zip(curve, plain, strict=True)):
        metrics |= {f"epoch {epoch} | success": one, f"epoch {epoch} | clean": other}
    return Outcome(metrics=metrics, note=treated.note)
