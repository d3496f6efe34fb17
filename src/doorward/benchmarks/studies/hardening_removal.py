"""Study `hardening-removal`: hardening as a removal of pervasive backdoors, beside other methods.

    doorward bench run hardening-removal --tier cpu

DECK's abstract: six pervasive attacks, mean attack success from 99.06 % to 1.94 %. Here eight, the
victims of the removal board among them, 5 % clean images, and an attacker who knows what is coming:
the victim is hardened by DECK-R with the backdoor in the data before it is handed over.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import Planted, planted_model
from doorward.benchmarks.studies.removal_methods import NOTHING, clean_share, parameters, treat
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.hardening import harden, hardening
from doorward.metrics import accuracy, attack_outcome, der
from doorward.poisoning import default_rate, poison
from doorward.randomness import derive_seed

__all__ = ["ATTACKED_BY", "hardening_removal"]

ATTACKED_BY = (
    "wanet-noise",
    "blend",
    "sig",
    "filter-nashville",
    "reflection",
    "style",
    "steganographic",
    "input-aware",
)
METHODS = (
    NOTHING,
    "fine-tuning",
    "fine-pruning",
    "nc-unlearning",
    "nad",
    "anp",
    "i-bau",
    "ft-sam",
    "fst",
    "moth",
    "deck",
)
ADAPTIVE = ("blend", "wanet-noise")
"""Attacks that are also tried by the attacker who knows of DECK-R."""


def _grid(tier: str) -> Grid:
    attacks: tuple[str, ...] = ATTACKED_BY
    adaptive: tuple[str, ...] = ADAPTIVE
    methods: tuple[str, ...] = METHODS
    seeds = 1
    share, against = 0.05, {"steps": 150, "checks": 1, "budget_accuracy": 100.0}
    if tier == "quick":
        options = {**task("digits", "resnet8", width=8, size=16, epochs=8.0), "target": 3}
        name, share = "digits 16x16", 0.2
        attacks, adaptive, methods = ("blend",), (), (NOTHING, "fine-tuning", "deck")
        shrinks = "Blended digits of 16x16 pixels, three methods, 20 % clean, few steps."
    elif tier == "cpu":
        options = {**task("cifar10", "resnet8", width=16, epochs=5.0), "target": 0}
        name = "cifar10, resnet8 (width 16)"
        shrinks = (
            "ResNet-8 at half its width and 5 epochs instead of ResNet-18 and 100; one seed; each "
            "method passes over the clean images about 5 times; hardening takes 150 steps."
        )
    else:
        options = {**task("cifar10", "resnet18", epochs=100.0), "target": 0}
        name, seeds, shrinks = "cifar10, resnet18", 3, ""
        against = {"steps": 800, "checks": 1, "budget_accuracy": 100.0}
    cells: dict[str, dict[str, Any]] = {}
    for attack in (*attacks, *(f"{one}, adaptive" for one in adaptive)):
        known = attack.endswith(", adaptive")
        cells[f"{attack}; {name}"] = {
            **options,
            **parameters(tier, share),
            "attack": attack.partition(",")[0],
            "share": share,
            "against": against if known else None,
        }
    return Grid(methods=methods, settings=cells, seeds=seeds, shrinks=shrinks)


@study(
    "hardening-removal",
    version=1,
    title="Hardening as a removal of pervasive backdoors",
    question="What is left of pervasive backdoors after hardening and after other methods?",
    grid=_grid,
    prepare=require_data,
    notes="All methods of a setting repair the same victim with the same clean images (5 % of the "
    "training set) and are measured on the test images, as on the removal board; moth and deck may "
    "lose one point on a fifth of the clean images. Adaptive: the attacker trains the victim "
    "against the changes of DECK-R on poisoned data, so that the backdoor survives it, and hands "
    "that over; before is measured after that.",
    metrics=(
        Metric("attack_success", "Attack success", "percent", "lower", plot=True),
        Metric("attack_before", "before", "percent"),
        Metric("accuracy", "Accuracy", "percent", "higher"),
        Metric("cost", "Cost (points)", better="lower"),
        Metric("robust_accuracy", "Robust accuracy", "percent", "higher"),
        Metric("der", "DER", better="higher"),
        Metric("seconds", "Seconds", better="lower"),
    ),
)
def hardening_removal(cell: Cell) -> Outcome:
    """Repair the cell's victim by the cell's method, and measure what is left."""
    train, test = load_pair(cell)
    victim = planted_model(cell, train, test, cell.options["attack"])
    model: nn.Module = victim.model
    if cell.options["against"] is not None:
        model = _prepared(cell, victim, train, test)
    before, first = accuracy(model, test), attack_outcome(model, test, victim.backdoor)
    treated = treat(cell, cell.method, model, clean_share(cell, train))
    after, left = (
        accuracy(treated.model, test),
        attack_outcome(treated.model, test, victim.backdoor),
    )
    return Outcome(
        metrics={
            "attack_success": left.attack_success,
            "attack_before": first.attack_success,
            "accuracy": after,
            "cost": 100 * (before - after),
            "robust_accuracy": left.robust_accuracy,
            "der": der(
                accuracy_before=before,
                accuracy_after=after,
                attack_before=first.attack_success,
                attack_after=left.attack_success,
            ),
            "seconds": treated.seconds,
        },
        note=treated.note,
    )


def _prepared(cell: Cell, victim: Planted, train: ImageData, test: ImageData) -> nn.Module:
    """The victim, hardened by an attacker who keeps the backdoor in the training data."""
    seed = derive_seed(cell.seed, "adaptive attacker")
    rate = default_rate(cell.options["attack"])
    poisoned = poison(train, victim.backdoor, rate=rate, seed=seed)
    images, labels = poisoned.fetch(torch.arange(len(poisoned)))
    kept = dataclasses.replace(train, images=images, labels=labels, name="poisoned")
    method = hardening("deck", **cell.options["against"])
    return harden(victim.model, kept, method, validation=test, seed=seed)[0]
