"""Study `hardening-natural`: natural backdoors of clean models by family, before and after.

    doorward bench run hardening-natural --tier cpu

After the table of inherent backdoors by Tao et al. (2022): for each family of changes the most
successful of all targets, within a bound on how visible the change may be.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.hardened import NOTHING, hardened_model, parted
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.hardening import FAMILIES, natural_backdoors
from doorward.metrics import accuracy

__all__ = ["hardening_natural"]

METHODS = (NOTHING, "pgd", "moth", "deck")


def _grid(tier: str) -> Grid:
    families = FAMILIES.names()
    common: dict[str, Any] = {"steps": 150, "checks": 5}
    search: dict[str, Any] = {"first_steps": 20, "next_steps": 5, "warm_steps": 20}
    attack: dict[str, Any] = {"epochs": 40, "images": 24, "batch_size": 24}
    methods: tuple[str, ...] = METHODS
    seeds = 3
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=6.0)
        common = {"steps": 6, "checks": 1, "batch_size": 64}
        search = {"first_steps": 5, "next_steps": 2, "warm_steps": 3}
        attack = {"epochs": 6, "images": 8, "batch_size": 8}
        families, methods = ["flow", "additive"], (NOTHING, "deck")
        name, seeds = "digits 16x16, resnet8 (width 8)", 1
        shrinks = "Digits of 16x16 pixels, two families, 6 steps: this checks that the study works."
    elif tier == "cpu":
        options = task("cifar10", "resnet8", width=16, epochs=5.0)
        name = "cifar10, resnet8 (width 16)"
        families = [family for family in families if family != "latent"]
        shrinks = (
            "ResNet-8 at half its width, 5 epochs of training and 150 steps of hardening instead "
            "of ResNet-18, 60 and 800; 24 images of a class and 40 steps instead of 64 and 100; "
            "no latent family, whose encoder-decoder alone would take longer."
        )
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        common, search, attack = {"steps": 800}, {}, {}
        name, shrinks = "cifar10, resnet18", ""
    numbers = {
        method: {**common, **(search if method in ("deck", "moth") else {})}
        for method in METHODS
        if method != NOTHING
    }
    return Grid(
        methods=methods,
        settings={
            f"{family}; {name}": {
                **options,
                "hardening": numbers,
                "family": family,
                "attack": attack,
            }
            for family in families
        },
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "hardening-natural",
    version=1,
    title="Hardening: natural backdoors",
    question="How many images does the best change of a family lead to one class, "
    "before and after?",
    grid=_grid,
    prepare=require_data,
    notes="One change for images of all other classes, searched for each target within 1 - SSIM "
    "of 0.1, counted on images that the search has not seen; the worst target is shown, and the "
    "mean over targets beside it. The published levels (44.5 % for warps, 94.7 % for blends, and "
    "so on, over 20 architectures) are by other searches with other bounds.",
    metrics=(
        Metric("worst", "Worst target", "percent", "lower", plot=True),
        Metric("mean", "Mean over targets", "percent", "lower"),
        Metric("visible", "1 - SSIM of the worst"),
        Metric("accuracy", "Accuracy", "percent", "higher"),
        Metric("seconds", "Seconds", better="lower"),
    ),
)
def hardening_natural(cell: Cell) -> Outcome:
    """Search one family's changes in one model."""
    train, test = load_pair(cell)
    held, unseen = parted(test)
    one = hardened_model(cell, train, held, cell.method)
    family = cell.options["family"]
    (found,) = natural_backdoors(
        one.model, unseen, (family,), settings=cell.options["attack"], seed=cell.seed
    ).values()
    return Outcome(
        metrics={
            "worst": found.worst,
            "mean": sum(found.success) / len(found.success),
            "visible": None if found.target is None else found.dissimilarity[found.target],
            "target": found.target,
            "accuracy": accuracy(one.model, unseen),
            "seconds": found.seconds,
        }
    )
