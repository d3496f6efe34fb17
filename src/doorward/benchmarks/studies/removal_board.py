"""Study `removal-board`: every removal method against every kind of attack.

    doorward bench run removal-board --tier cpu

After BackdoorBench (Wu et al. 2022): the same measures (ACC, ASR, RA, DER) with 5 % and 1 % of the
training images clean; implementations, victims and time beside the numbers are ours.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import planted_model
from doorward.benchmarks.studies.removal_methods import (
    METHODS,
    NOTHING,
    clean_share,
    parameters,
    treat,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.metrics import accuracy, attack_outcome, der

__all__ = ["ATTACKED_BY", "removal_board"]

ATTACKED_BY = (
    "badnets",
    "blend",
    "sig",
    "low-frequency",
    "wanet-noise",
    "input-aware",
    "bpp",
    "ftrojan",
)
"""Attacks of the cpu tier: patches, full-image patterns, warps, sample-specific triggers."""
_MORE = ("steganographic", "lira", "reflection", "filter-gotham", "clean-label")


def _settings(
    tier: str, name: str, options: dict[str, Any], attacks: tuple[str, ...], shares: list[float]
) -> dict[str, dict[str, Any]]:
    return {
        f"{attack}, {share:.0%} clean; {name}": {
            **options,
            "attack": attack,
            "share": share,
            **parameters(tier, share),
        }
        for attack in attacks
        for share in shares
    }


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = {**task("digits", "resnet8", width=8, size=16, epochs=8.0), "target": 3}
        return Grid(
            methods=METHODS,
            settings=_settings(tier, "digits 16x16", options, ("badnets",), [0.1]),
            shrinks="One attack on digits of 16x16 pixels with 10 % clean, ResNet-8 of a quarter "
            "of its width, two epochs per method, and a short scan (pixel) in one round.",
        )
    if tier == "cpu":
        options = {**task("cifar10", "resnet8", width=16, epochs=5.0), "target": 0}
        return Grid(
            methods=METHODS,
            settings=_settings(
                tier, "cifar10, resnet8 (width 16)", options, ATTACKED_BY, [0.05, 0.01]
            ),
            shrinks="ResNet-8 at half its width, trained for 5 epochs, instead of PreAct-ResNet-18 "
            "and 100; 8 attacks, one seed; each method passes over the clean images about 5 times "
            "(5 %) or 25 times (1 %) instead of up to 100, ANP and RNP take 200 steps instead of "
            "2,000, I-BAU 2 rounds, BTI-DBF one, purges one.",
        )
    options = {**task("cifar10", "preact-resnet18", epochs=100.0), "target": 0}
    return Grid(
        methods=METHODS,
        settings=_settings(
            tier, "cifar10, preact-resnet18", options, ATTACKED_BY + _MORE, [0.05, 0.01]
        ),
        seeds=3,
    )


@study(
    "removal-board",
    version=1,
    title="Removal: the board",
    question="What does every removal method leave of every attack, and what does it cost?",
    grid=_grid,
    prepare=require_data,
    notes="All methods of a setting repair the same victim with the same clean images, drawn from "
    "the training set as in BackdoorBench, and are measured on the test images. Attack success "
    "and robust accuracy count triggered test images of other classes than the target. DER is "
    "(max(0, drop of attack success) - max(0, drop of accuracy) + 1) / 2: 1 is perfect, 0.5 does "
    "nothing. Purge is doorward purge within 1 point of accuracy on held-out clean images; "
    "where its scan finds nothing it leaves the model alone, unless it always finishes.",
    metrics=(
        Metric("attack_success", "Attack success", "percent", "lower", plot=True),
        Metric("attack_before", "before", "percent"),
        Metric("accuracy", "Accuracy", "percent", "higher"),
        Metric("accuracy_before", "before", "percent"),
        Metric("cost", "Cost (points)", better="lower"),
        Metric("robust_accuracy", "Robust accuracy", "percent", "higher"),
        Metric("der", "DER", better="higher"),
        Metric("seconds", "Seconds", better="lower"),
        Metric("peak_memory_mib", "Memory (MiB)", better="lower"),
    ),
)
def removal_board(cell: Cell) -> Outcome:
    """Repair the cell's victim by the cell's method, and measure what is left."""
    train, test = load_pair(cell)
    victim = planted_model(cell, train, test, cell.options["attack"])
    before = victim.result
    treated = treat(cell, cell.method, victim.model, clean_share(cell, train))
    now, left = accuracy(treated.model, test), attack_outcome(treated.model, test, victim.backdoor)
    return Outcome(
        metrics={
            "attack_success": left.attack_success,
            "attack_before": before.attack_success,
            "accuracy": now,
            "accuracy_before": before.accuracy,
            "cost": 100 * (before.accuracy - now),
            "robust_accuracy": left.robust_accuracy,
            "robust_before": before.robust_accuracy,
            "der": der(
                accuracy_before=before.accuracy,
                accuracy_after=now,
                attack_before=before.attack_success,
                attack_after=left.attack_success,
            ),
            "seconds": treated.seconds,
            "peak_memory_mib": None if cell.method == NOTHING else treated.peak_memory_mib,
            "found": treated.found,
        },
        note=treated.note,
    )
