"""Study `class-distance`: how far apart classes are, in clean models and in attacked ones.

    doorward bench run class-distance --tier cpu

A patch in a corner shortens the patch distance to its class, a warp or a blend the distances of
whole-image changes. Clean models have close pairs, too: their natural backdoors.
"""

from __future__ import annotations

import statistics
from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import clean_model, planted_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.hardening import DistanceResult, class_distances, measuring
from doorward.metrics import accuracy

__all__ = ["class_distance"]

KINDS = ("patch", "pixel", "ssim", "lpips", "parameters")
ATTACKS = ("badnets", "blend", "sig", "wanet-noise", "filter-nashville")


def _grid(tier: str) -> Grid:
    kinds: tuple[str, ...] = KINDS
    suspects: tuple[str, ...] = ("clean", *ATTACKS)
    attack: dict[str, Any] = {}
    if tier == "quick":
        options = {**task("digits", "resnet8", width=8, size=16, epochs=8.0), "target": 3}
        attack = {"starts": 1, "epochs": 20, "images": 12, "batch_size": 12}
        kinds, suspects, name, seeds = ("patch", "pixel"), ("clean", "badnets"), "digits 16x16", 1
        shrinks = "Digits of 16x16 pixels, two kinds, 20 steps: this checks that the study works."
    elif tier == "cpu":
        options = {**task("cifar10", "resnet8", width=16, epochs=5.0), "target": 0}
        attack = {"starts": 1, "epochs": 60, "images": 24, "batch_size": 24}
        kinds, suspects = ("patch", "pixel"), ("clean", "badnets", "blend")
        name, seeds = "cifar10, resnet8 (width 16)", 3
        shrinks = (
            "ResNet-8 at half its width and 5 epochs instead of ResNet-18 and 60; one start, 24 "
            "images of a class and 60 steps instead of 3, 64 and 100; two kinds, two attacks."
        )
    else:
        options = {**task("cifar10", "resnet18", epochs=60.0), "target": 0}
        name, seeds, shrinks = "cifar10, resnet18", 3, ""
    return Grid(
        methods=kinds,
        settings={
            f"{suspect}; {name}": {**options, "suspect": suspect, "distance": attack}
            for suspect in suspects
        },
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "class-distance",
    version=1,
    title="Hardening: class distances",
    question="How far apart are the classes of clean and of attacked models?",
    grid=_grid,
    prepare=require_data,
    notes="Distances over all ordered pairs, the smallest of the starts; pairs out of reach are "
    "counted and take no part in the mean. Into the target is the mean over the pairs that lead "
    "to the attacked class (in a clean model: class 3 of digits, class 0 else), its ratio is to "
    "the mean over all other pairs. Closest target is the class with the smallest median.",
    metrics=(
        Metric("mean", "Mean distance", plot=True),
        Metric("low", "from (95 %)"),
        Metric("high", "to"),
        Metric("closest", "Closest pair"),
        Metric("into_target", "Into the target"),
        Metric("target_ratio", "Target / others", "ratio"),
        Metric("target_is_closest", "Target is closest", "yesno"),
        Metric("reached", "Pairs reached", "percent"),
        Metric("start_spread", "Spread of starts", "percent"),
        Metric("success", "Mean success", "percent"),
        Metric("seconds", "Seconds", better="lower"),
    ),
)
def class_distance(cell: Cell) -> Outcome:
    """Measure one kind of distance in one model."""
    train, test = load_pair(cell)
    suspect, target = cell.options["suspect"], int(cell.options["target"])
    strength, planted = None, None
    if suspect == "clean":
        model = clean_model(cell, train).model
    else:
        victim = planted_model(cell, train, test, suspect)
        model, planted = victim.model, victim.result.attack_success
        strength = victim.result.strength.to_dict()
    attack = measuring(cell.method, **cell.options["distance"])  # type: ignore[arg-type]
    result = class_distances(model, test, attack=attack, kind=attack.kind, seed=cell.seed)
    into, others = _parted(result, target)
    mean_into = statistics.fmean(into) if into else None
    mean_others = statistics.fmean(others) if others else None
    closest = result.closest(1)
    successes = [close.success for close in result.closest()]
    return Outcome(
        metrics={
            "mean": result.mean.mean,
            "low": result.mean.low,
            "high": result.mean.high,
            "median": result.median,
            "closest": closest[0].distance if closest else None,
            "closest_pair": f"{closest[0].source} to {closest[0].target}" if closest else "none",
            "into_target": mean_into,
            "target_ratio": mean_into / mean_others if mean_into and mean_others else None,
            "target_is_closest": _closest_target(result) == target,
            "reached": result.mean.count / len(result.pairs),
            "start_spread": result.start_spread,
            "success": statistics.fmean(successes) if successes else None,
            "seconds": result.seconds,
            "accuracy": accuracy(model, test),
            "attack_success": planted,
        },
        strength=strength,
    )


def _parted(result: DistanceResult, target: int) -> tuple[list[float], list[float]]:
    """Distances that lead to the target, and all others."""
    into = [close.distance for close in result.closest() if close.target == target]
    return into, [close.distance for close in result.closest() if close.target != target]


def _closest_target(result: DistanceResult) -> int:
    """The class with the smallest median distance from the others, out of reach the farthest."""
    count = range(len(result.classes))

    def middle(target: int) -> float:
        column = [result.distances[source][target] for source in count if source != target]
        return statistics.median(float("inf") if d is None else d for d in column)

    return min(count, key=middle)
