"""Study `watermark-false-claims`: can somebody claim a model that is not theirs?

    doorward bench run watermark-false-claims --tier cpu

Independent models of several architectures face every attack of `FALSE_CLAIMS`, and random keys are
compared with the exact law. After Liu et al. (2024), *False Claims against Model Ownership
Resolution*, who break schemes with free choice of triggers by transferable adversarial examples.
The accuser has images and surrogates of his own. Models are trained once per seed and kept on disk;
the first cell of a seed pays for them.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

from doorward.benchmarks.studies.common import require_data, task
from doorward.benchmarks.studies.victims import parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, Value, study
from doorward.data import ImageData
from doorward.metrics import accuracy
from doorward.models import Classifier
from doorward.randomness import derive_seed
from doorward.watermark import KeyParameters
from doorward.watermark.disputes import (
    FALSE_CLAIMS,
    Scene,
    calibrate,
    grinding_curve,
    log2_keys_needed,
    matches_of_random_keys,
    try_false_claims,
)

__all__ = ["watermark_false_claims"]

_KEYS = "keyed: many random keys"
_YEAR = 365.25 * 24 * 3600
_BINS = 31
"""Counts of keys by their matches, for the plot of p-values; the last bin holds all above."""

_METRICS = (
    Metric("models", "Independent models"),
    Metric("matches", "Triggers matched", "percent", plot=True),
    Metric("convicted", "Models convicted", "percent", "lower", plot=True),
    Metric("smallest_log2_p", "Smallest p-value", "log2"),
    Metric("tries", "Sets tried"),
    Metric("below_1e6", "Keys at p ≤ 1e-6", "number", "lower"),
    Metric("ks_p", "p of Kolmogorov-Smirnov"),
    Metric("chi_square_p", "p of chi-square"),
    Metric("best", "Matches of the best key"),
    Metric("best_expected", "expected"),
    Metric("accuracy", "Accuracy of the models", "percent"),
)


def _grid(tier: str) -> Grid:
    names = sorted(f"{FALSE_CLAIMS.facts(name)['scheme']}: {name}" for name in FALSE_CLAIMS)
    methods = (*names, _KEYS)
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=4.0)
        options |= {"owner": 700, "thief": 700, "triggers": 60, "keys": 60, "ground": 20}
        options |= {"suspects": [["resnet8", 8], ["vgg11-bn", 8]], "surrogates": [["resnet8", 8]]}
        options |= {"candidates": 3, "eps": 0.3, "steps": 10}
        return Grid(
            methods=methods,
            settings={"digits 16x16, two narrow architectures": options},
            shrinks="Digits of 16x16 pixels, two narrow architectures, 4 epochs, 60 triggers, 60 "
            "keys.",
        )
    small = tier == "cpu"
    suspects: list[list[Any]] = [
        ["resnet8", 16], ["wrn-16-1", None], ["vgg11-bn", 16], ["resnet20", 8],
    ] if small else [
        ["resnet18", None], ["preact-resnet18", None], ["vgg16-bn", None], ["mobilenetv2", None],
    ]  # fmt: skip
    surrogates = [["resnet8", 16], ["vgg11-bn", 16]] if small else suspects[:3]
    options = task("cifar10", suspects[0][0], epochs=4.0 if small else 60.0)
    options |= {"owner": 25_000, "thief": 25_000, "triggers": 100, "keys": 1000, "ground": 100}
    options |= {"suspects": suspects, "surrogates": surrogates}
    options |= {"candidates": 5, "eps": 16 / 255, "steps": 20}
    return Grid(
        methods=methods,
        settings={"cifar10, four architectures": options},
        seeds=3,
        shrinks="Four narrow architectures and 4 epochs instead of full networks and 60; two "
        "surrogates."
        if small
        else "",
    )


@study(
    "watermark-false-claims",
    version=1,
    title="Watermark: false claims",
    question="Can somebody claim a model that they have no part in?",
    grid=_grid,
    prepare=require_data,
    notes="Each seed has independent models of its own, and each model faces every claim; a claim "
    "convicts at p ≤ 2⁻⁶⁴. free-choice is the paper's scheme, where the claimant chooses "
    "pictures and labels; keyed is ours. foreign-pictures has no matches: the claim cannot be "
    "opened, and the models are not asked. many random keys tries each on each model, and "
    "compares the p-values with the exact law, for each model by itself (shown is the smallest p "
    "of the tests times the number of models, so only values near 0 speak against the law); its "
    "best key is averaged over the models. keys_with_N_matches in the result file hold the "
    "distribution, and log2_years says how long this machine would have to draw keys until one "
    "satisfies the rule. Images of owners and accuser are disjoint.",
    metrics=_METRICS,
)
def watermark_false_claims(cell: Cell) -> Outcome:
    """Train (or read back) the independent models; make the claims of the cell's method."""
    have = parties(cell)
    suspects = {
        f"{architecture} {place}": _model(cell, architecture, width, place, have.owner)
        for place, (architecture, width) in enumerate(cell.options["suspects"])
    }
    facts: dict[str, Value] = {metric.name: None for metric in _METRICS}
    facts |= {
        "models": len(suspects),
        "accuracy": sum(accuracy(model, have.test) for model in suspects.values()) / len(suspects),
    }
    if cell.method == _KEYS:
        return Outcome(metrics=facts | _random_keys(cell, suspects, have.owner))
    attack = cell.method.partition(": ")[2]
    needs = FALSE_CLAIMS.facts(attack).get("surrogates", False)
    scene = Scene(
        suspects=suspects,
        images=have.test,
        surrogates=[
            _model(cell, architecture, width, 100 + place, have.thief)
            for place, (architecture, width) in enumerate(
                cell.options["surrogates"] if needs else []
            )
        ],
        n=cell.options["triggers"],
        keys=cell.options["ground"],
        candidates=cell.options["candidates"],
        eps=cell.options["eps"],
        steps=cell.options["steps"],
        seed=cell.seed,
    )
    (claim,) = try_false_claims(scene, [attack])
    facts |= {
        "matches": claim.match_rate,
        "convicted": claim.succeeded / len(claim.trials),
        "smallest_log2_p": claim.best_log2_p,
        "tries": claim.tries,
        "admitted": any(trial.admitted for trial in claim.trials),
    }
    return Outcome(metrics=facts, note=claim.reason)


def _random_keys(
    cell: Cell, suspects: dict[str, Classifier], source: ImageData
) -> dict[str, Value]:
    n, classes, keys = cell.options["triggers"], source.num_classes, cell.options["keys"]
    parameters = KeyParameters(n=n, classes=classes, image_shape=source.image_shape)
    begun = time.perf_counter()
    found = matches_of_random_keys(suspects, parameters, keys, seed=cell.seed)
    seconds = (time.perf_counter() - begun) / keys / len(suspects)
    laws = [
        calibrate(matches, n=n, classes=classes, suspect=name, seed=cell.seed)
        for name, matches in found.items()
    ]
    curves = [grinding_curve(m, n=n, classes=classes, keys=(10, 100, keys)) for m in found.values()]
    counts = [sum(law.counts[m] for law in laws) for m in range(n + 1)]
    facts: dict[str, Value] = {
        "matches": sum(float(m.double().mean()) for m in found.values()) / n / len(found),
        "convicted": sum(law.at_or_below(-64) for law in laws) / keys / len(laws),
        "smallest_log2_p": min(law.smallest_log2_p for law in laws),
        "tries": keys,
        "below_1e6": sum(law.at_or_below(math.log2(1e-6)) for law in laws),
        "ks_p": min(1.0, len(laws) * min(law.ks_p for law in laws)),
        "chi_square_p": min(1.0, len(laws) * min(law.chi_square_p for law in laws)),
        "best": sum(curve[-1].matches for curve in curves) / len(curves),
        "best_expected": curves[0][-1].expected,
        "seconds_per_key": seconds,
        "log2_years": log2_keys_needed(n, classes, -64) + math.log2(seconds / _YEAR),
    }
    for place, points in enumerate(zip(*curves, strict=True)):
        facts[f"best_of_{points[0].keys}"] = sum(p.matches for p in points) / len(points)
        facts[f"best_of_{points[0].keys}_expected"] = curves[0][place].expected
    for matches in range(_BINS):
        last = matches == _BINS - 1
        facts[f"keys_with_{matches}_matches"] = sum(counts[matches:]) if last else counts[matches]
    return facts


def _model(
    cell: Cell, architecture: str, width: int | None, place: int, source: ImageData
) -> Classifier:
    """An unmarked model: another network, other first weights, another order of the images."""
    options = {**cell.options, "architecture": architecture, "width": width}
    seed = derive_seed(cell.seed, "false claims", place)
    return plain_model(dataclasses.replace(cell, options=options, seed=seed), source).model
