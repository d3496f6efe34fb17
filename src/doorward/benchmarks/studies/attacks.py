"""Study `attacks`: what every named attack does to a model, and how visible its trigger is.

    doorward bench run attacks --tier cpu

After the tables of victims in the literature (BackdoorBench and others), with our implementations
throughout. Ours: the exact interval of the success, the success of the same trigger against the
clean network, and the strength of every trigger beside it.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import clean_model, planted_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.metrics import accuracy, attack_success
from doorward.poisoning import ATTACKS

__all__ = ["QUICK", "attacks"]

QUICK = ("badnets", "blend", "wanet")
"""Attacks of the quick tier."""


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=8.0)
        return Grid(
            methods=QUICK,
            settings={"digits 16x16, resnet8 (width 8)": {**options, "target": 3}},
            shrinks="Three attacks on digits of 16x16 pixels, a quarter of the network's width.",
        )
    if tier == "cpu":
        options = task("cifar10", "resnet8", width=16, epochs=4.0)
        return Grid(
            methods=tuple(ATTACKS),
            settings={"cifar10, resnet8 (width 16), 4 epochs": {**options, "target": 0}},
            shrinks="ResNet-8 at half its width and 4 epochs instead of ResNet-18 and 100, and one "
            "seed: every attack is there, but those that need a long training are shown too weak.",
        )
    options = task("cifar10", "resnet18", epochs=100.0)
    return Grid(
        methods=tuple(ATTACKS),
        settings={"cifar10, resnet18": {**options, "target": 0}},
        seeds=3,
    )


@study(
    "attacks",
    version=1,
    title="Attacks: what each of them does to a model",
    question="How well does every attack work, what does it cost, and how visible is it?",
    grid=_grid,
    prepare=require_data,
    notes="Attack success counts triggered test images that do not belong to the target; its 95 % "
    "interval is exact (Clopper and Pearson). Cost is the accuracy of the clean network of the "
    "same seed minus the victim's, in points. Success without poison is that of the same trigger "
    "against the clean network. A trigger's strength (L2, largest change, PSNR, SSIM) is measured "
    "on 256 test images in [0, 1]. Poison rates are the attacks' usual ones, as in "
    "doorward poison.",
    metrics=(
        Metric("attack_success", "Attack success", "percent", plot=True),
        Metric("success_low", "from", "percent"),
        Metric("success_high", "to", "percent"),
        Metric("robust_accuracy", "Robust accuracy", "percent"),
        Metric("accuracy", "Accuracy", "percent", "higher"),
        Metric("clean_accuracy", "Clean network", "percent"),
        Metric("cost", "Cost (points)"),
        Metric("clean_success", "Success without poison", "percent"),
        Metric("train_seconds", "Training (s)"),
    ),
)
def attacks(cell: Cell) -> Outcome:
    """Train the cell's victim, or read it back, and compare it with the clean network."""
    train, test = load_pair(cell)
    clean = clean_model(cell, train)
    victim = planted_model(cell, train, test, cell.method)
    result, before = victim.result, accuracy(clean.model, test)
    low, high = result.attack_interval
    metrics: dict[str, Any] = {
        "attack_success": result.attack_success,
        "success_low": low,
        "success_high": high,
        "robust_accuracy": result.robust_accuracy,
        "accuracy": result.accuracy,
        "clean_accuracy": before,
        "cost": 100 * (before - result.accuracy),
        "clean_success": attack_success(clean.model, test, victim.backdoor),
        "rate": result.rate,
        "poisoned": result.poisoned,
        "attack_images": result.attack_images,
        "train_seconds": victim.seconds,
    }
    return Outcome(
        metrics=metrics,
        strength={
            name: value for name, value in result.strength.to_dict().items() if value is not None
        },
    )
