"""Study `distance-speed`: the whole matrix at once against one pair at a time.

    doorward bench run distance-speed --tier cpu

In one process, on one model: some pairs one at a time, by the same search and by MOTH's schedule;
our matrix; some other pairs, so that a machine that slows down slows down all of them. What was
done for some pairs is scaled to all.
"""

from __future__ import annotations

import math
import statistics
import time
from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.hardening import DistanceResult, Measuring, class_distances, measuring
from doorward.hardening.distance import MOTH
from doorward.models import Classifier

__all__ = ["GOAL", "distance_speed"]

GOAL = 10.0
"""How many times longer MOTH's way is to take, at distances that agree."""


def _grid(tier: str) -> Grid:
    moth: dict[str, Any] = {}
    ours: dict[str, Any] = {}
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=5.0)
        ours = {"starts": 1, "epochs": 15, "images": 12, "batch_size": 12}
        moth = {"epochs": 20, "images": 16}
        some, name, seeds = 2, "digits 16x16, resnet8 (width 8)", 1
        shrinks = (
            "Digits of 16x16 pixels, a quarter of the width, one start, 15 steps of ours and 20 "
            "passes of MOTH's instead of 1,000: this checks that the study works; its ratios mean "
            "nothing."
        )
    elif tier == "cpu":
        options = task("cifar10", "resnet8", epochs=5.0)
        ours = {"starts": 1}
        some, name, seeds = 4, "cifar10, resnet8", 3
        shrinks = (
            "ResNet-8 instead of ResNet-18; one start instead of three; four pairs one at a time "
            "instead of ten, scaled to 90."
        )
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        some, name, seeds, shrinks = 10, "cifar10, resnet18", 3, ""
    return Grid(
        methods=("all pairs at once, then one at a time",),
        settings={name: {**options, "ours": ours, "moth": moth, "some": some}},
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "distance-speed",
    version=1,
    title="Class distances: speed",
    question="How long does the whole matrix take, and how many times longer one pair at a time?",
    grid=_grid,
    prepare=require_data,
    notes="Half of the single pairs are measured before our matrix and half after it. The same "
    "search one pair at a time shows what batching alone gains; MOTH's schedule is 1,000 passes "
    "over 100 images in batches of 32 for each pair and start. Both were run with one start for "
    "some pairs and scaled to all pairs and to as many starts as ours. Distances are the mean over "
    "these pairs of one start; they agree if their ratio lies within twice the spread between "
    "starts and pairs. The goal is ten times at distances that agree.",
    metrics=(
        Metric("ratio", "MOTH / ours", "ratio", "higher", plot=True),
        Metric("batching_ratio", "Same search alone / ours", "ratio", "higher"),
        Metric("seconds", "Ours, all pairs (s)", better="lower"),
        Metric("alone_seconds", "Same search alone (s)"),
        Metric("moth_seconds", "MOTH's (s)"),
        Metric("distance", "Distance, ours"),
        Metric("alone_distance", "alone"),
        Metric("moth_distance", "MOTH's"),
        Metric("agree", "Distances agree", "yesno"),
        Metric("goal_met", "Goal met", "yesno"),
    ),
)
def distance_speed(cell: Cell) -> Outcome:
    """Measure the cell's clean model in all three ways."""
    train, test = load_pair(cell)
    model = clean_model(cell, train).model
    attack = measuring("patch", **cell.options["ours"])
    pairs = _some_pairs(test.num_classes, cell.options["some"])
    moth_settings = {**MOTH.settings.to_dict(), **cell.options["moth"]}
    moth = Measuring.from_dict({**MOTH.to_dict(), "settings": moth_settings, "starts": 1})
    alone = Measuring.from_dict({**attack.to_dict(), "starts": 1})

    half = len(pairs) // 2
    begun = _one_by_one(model, test, (alone, moth), pairs[:half], cell.seed)
    first = class_distances(model, test, attack=attack, seed=cell.seed)
    ended = _one_by_one(model, test, (alone, moth), pairs[half:], cell.seed)
    (alone_each, alone_found), (moth_each, moth_found) = (
        ((a + b) / len(pairs), [*x, *y]) for (a, x), (b, y) in zip(begun, ended, strict=True)
    )
    seconds = first.seconds
    scale = len(first.pairs) * attack.starts
    ours = [first.by_start[0][s][t] for s, t in pairs]
    whole = [first.distances[s][t] for s, t in first.pairs]
    ratio = moth_each * scale / seconds
    agree = _agree(ours, moth_found)
    return Outcome(
        metrics={
            "ratio": ratio,
            "batching_ratio": alone_each * scale / seconds,
            "seconds": seconds,
            "alone_seconds": alone_each * scale,
            "moth_seconds": moth_each * scale,
            "distance": _mean(ours),
            "alone_distance": _mean(alone_found),
            "moth_distance": _mean(moth_found),
            "agree": agree,
            "goal_met": ratio >= GOAL and agree,
            "whole_distance": _mean(whole),
            "reached": first.mean.count / len(first.pairs),
            "start_spread": first.start_spread,
            "forward_images": first.forward_images,
            "memory_mib": first.peak_memory_mib,
        }
    )


def _one_by_one(
    model: Classifier,
    clean: ImageData,
    attacks: tuple[Measuring, ...],
    pairs: list[tuple[int, int]],
    seed: int,
) -> list[tuple[float, list[float | None]]]:
    """For each attack its seconds and distances, each pair in a call of its own."""
    results = []
    for attack in attacks:
        begun, found = time.perf_counter(), []
        for source, target in pairs:
            one: DistanceResult = class_distances(
                model, clean, attack=attack, pairs=[(source, target)], seed=seed
            )
            found.append(one.distances[source][target])
        results.append((time.perf_counter() - begun, found))
    return results


def _some_pairs(classes: int, count: int) -> list[tuple[int, int]]:
    """Pairs spread over the matrix, each class at most once as a source while there are any."""
    return [
        (k % classes, (k % classes + 1 + k * 3 % (classes - 1)) % classes) for k in range(count)
    ]


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _agree(ours: list[float | None], theirs: list[float | None]) -> bool:
    """Whether the mean logarithm of the ratio is within twice its standard error, or 10 %."""
    logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True) if a and b]
    if not logs:
        return False
    error = statistics.stdev(logs) / len(logs) ** 0.5 if len(logs) > 1 else 0.0
    return abs(statistics.fmean(logs)) <= max(2 * error, math.log(1.1))
