"""Study `watermark-functionality`: what a mark costs, for every way of embedding it.

    doorward bench run watermark-functionality --tier cpu

After table 1 of Adi et al. (2018): the same network, recipe and seed without a mark, marked from
scratch, and marked after training. Ours: all embedding methods side by side, and the time that
marking takes, measured against plain training in turns within one process.
"""

from __future__ import annotations

import dataclasses
import statistics
from typing import Any

from doorward.benchmarks.studies.common import new_model, recipe_of, require_data, task
from doorward.benchmarks.studies.victims import (
    Victim,
    key_of,
    marked_model,
    parties,
    plain_model,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.metrics import accuracy, binomial_tail_log2
from doorward.training import fit
from doorward.watermark import count_matches, embed

__all__ = ["METHODS", "scale", "watermark_functionality"]

METHODS = ("plain", "app", "margin", "certified", "blended")
_ROUNDS, _STEPS = 3, 30


def scale(tier: str) -> tuple[str, dict[str, Any], int, str]:
    """Name, options, seeds and shrinking of a tier's setting; the attack study's are the same."""
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=10.0)
        options |= {"owner": 1000, "thief": 437, "triggers": 60}
        return "digits 16x16, resnet8 (width 8)", options, 1, (
            "Digits of 16x16 pixels, a quarter of the network's width, 60 triggers."
        )  # fmt: skip
    if tier == "cpu":
        options = task("cifar10", "resnet8", epochs=5.0)
        options |= {"owner": 30_000, "thief": 20_000, "triggers": 100}
        return "cifar10, resnet8, 5 epochs", options, 3, (
            "ResNet-8 and 5 epochs instead of ResNet-18 and 60; the owner trains on 30,000 images, "
            "the thief has the other 20,000."
        )  # fmt: skip
    options = task("cifar10", "resnet18", epochs=60.0)
    options |= {"owner": 30_000, "thief": 20_000, "triggers": 100}
    return "cifar10, resnet18", options, 3, ""


def _grid(tier: str) -> Grid:
    name, options, seeds, shrinks = scale(tier)
    settings: dict[str, dict[str, Any]] = {name: options}
    only: dict[str, tuple[str, ...]] = {}
    if tier == "cpu":
        longer = "cifar10, resnet8, 12 epochs"
        settings[longer] = {**options, "recipe": {**options["recipe"], "epochs": 12.0}}
        only[longer] = ("unmarked", "plain", "pretrained")
        shrinks += (
            " A mark needs about as many showings in a short training as in a long one, so its "
            "price is also taken at 12 epochs, for the plain embedding."
        )
    return Grid(
        methods=("unmarked", *METHODS, "pretrained"),
        settings=settings,
        seeds=seeds,
        shrinks=shrinks,
        only=only,
    )


@study(
    "watermark-functionality",
    version=1,
    title="Watermark: what each way of embedding costs",
    question="How much accuracy and time does a mark cost, and are its triggers learnt?",
    grid=_grid,
    prepare=require_data,
    notes="On CIFAR-10 the owner trains on 30,000 images; the thief of the attack study has the "
    "other 20,000. Cost is the accuracy of the unmarked network of the same seed minus the marked "
    "one's, in points. Time is the marked training's as a multiple of the plain training's, from "
    "steps of both taken in turns within one process (for pretrained: marking alone, as a share "
    "of the training before it).",
    metrics=(
        Metric("accuracy", "Accuracy", "percent", "higher", plot=True),
        Metric("cost", "Cost (points)", "number", "lower"),
        Metric("matches", "Triggers matched", "percent", "higher"),
        Metric("log2_p", "p-value", "log2"),
        Metric("time_ratio", "Time against plain", "ratio", "lower"),
        Metric("train_seconds", "Training (s)"),
    ),
)
def watermark_functionality(cell: Cell) -> Outcome:
    """Train by the cell's method, compare with the unmarked network, and time both."""
    who = parties(cell)
    plain = plain_model(cell, who.owner)
    victim = _victim(cell, who.owner)
    here, there = accuracy(victim.model, who.test), accuracy(plain.model, who.test)
    matches = count_matches(victim.key, victim.model)
    return Outcome(
        metrics={
            "accuracy": here,
            "cost": 100 * (there - here),
            "matches": matches / victim.key.n,
            "log2_p": binomial_tail_log2(matches, victim.key.n, 1 / victim.key.classes),
            "time_ratio": None if cell.method == "unmarked" else _time_ratio(cell, who, victim),
            "train_seconds": victim.facts["train_seconds"],
            "per_batch": victim.facts.get("per_batch"),
            "exposures": victim.facts.get("exposures"),
        }
    )


def _victim(cell: Cell, source: ImageData) -> Victim:
    if cell.method == "unmarked":
        return plain_model(cell, source)
    if cell.method == "pretrained":
        return marked_model(cell, source, "plain", mode="pretrained")
    return marked_model(cell, source, cell.method)


def _time_ratio(cell: Cell, who: Any, victim: Victim) -> float:
    """Marked steps against plain ones, in turns; the median of several rounds."""
    recipe = dataclasses.replace(recipe_of(cell), max_steps=_STEPS)
    method = "plain" if cell.method == "pretrained" else cell.method
    key = key_of(cell, who.owner)
    ratios = []
    for _ in range(_ROUNDS):
        plain = fit(new_model(cell, who.owner), None, who.owner, recipe)
        marked = embed(
            new_model(cell, who.owner),
            who.owner,
            key,
            recipe,
            method=method,
            per_batch=int(victim.facts["per_batch"]),
        )
        ratios.append(plain.samples_per_second / marked.fit.samples_per_second)
    ratio = statistics.median(ratios)
    if cell.method == "pretrained":
        before = plain_model(cell, who.owner).facts["steps"]
        ratio *= float(victim.facts["steps"]) / float(before)
    return ratio
