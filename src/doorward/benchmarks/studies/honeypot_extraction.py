"""Study `honeypot-extraction`: what a thief's copy learns from answers that lean, attack by attack.

    doorward bench run honeypot-extraction --tier cpu

A row is one extraction attack, on the undefended victim or on the leaning one, with the same seeds
throughout. The undefended row is the control: its copy is shown the very same waves.
"""

from __future__ import annotations

import hashlib
from typing import Any

import torch
from torch import nn

from doorward.benchmarks.studies.common import recipe_of, require_data, task
from doorward.benchmarks.studies.victims import parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.bundles import Identity
from doorward.data import ImageData
from doorward.extraction import EXTRACTIONS, steal
from doorward.honeypot import (
    LeanBudget,
    LeanKey,
    LeanResult,
    Menu,
    fit_lean,
    make_claim,
    make_menu,
    verify_substitute,
)
from doorward.honeypot.lean import Bit, LeanParameters, cost_of
from doorward.metrics import attack_success, predict
from doorward.randomness import Secret
from doorward.triggers import AllToOne, Backdoor, Waves

__all__ = ["METHODS", "honeypot_extraction"]

METHODS = ("undefended", "lean")

_LEVELS = (8, 16, 24, 32, 48)  # amplitudes of the curve, of 255; the claim is about the last three

_ATTACKS: dict[str, tuple[str, dict[str, Any], str]] = {
    "random, soft": ("knockoff-random", {}, "soft"),
    "random, label": ("knockoff-random", {}, "label"),
    "random, top-3": ("knockoff-random", {}, "top-3"),
    "random, rounded": ("knockoff-random", {}, "rounded-2"),
    "entropy, soft": ("activethief-entropy", {"rounds": 2}, "soft"),
    "jbda, soft": ("jbda", {"rounds": 2}, "soft"),
}


def _grid(tier: str) -> Grid:
    chosen: tuple[str, ...] = tuple(_ATTACKS)
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=8.0)
        options |= {"owner": 700, "thief": 737, "triggers": 1, "bits": 2, "copy": 6.0}
        options["menu"] = {"quietest": 5 / 255, "spacing": 1}
        options["alpha"] = 0.05
        options["budget"] = {"ece_change": 0.1, "agreement": 0.97, "accuracy_drop": 0.02}
        chosen, data = ("random, soft", "random, label"), "digits 16x16, resnet8 (width 8)"
        shrinks = (
            "Digits of 16x16 pixels, two waves, brief trainings, and wide bounds (10 points of "
            "calibration error, 2 of accuracy, 97 % of labels): a victim so sure of itself has "
            "little to lean with otherwise."
        )
    elif tier == "cpu":
        options = task("cifar10", "resnet8", epochs=5.0)
        options |= {"owner": 30_000, "thief": 20_000, "triggers": 100, "bits": 3, "copy": 5.0}
        options["budget"], options["menu"], options["alpha"] = {}, {}, 1e-3
        chosen, data = chosen[:-1], "cifar10, resnet8, 5 epochs"
        shrinks = (
            "ResNet-8 and 5 epochs instead of ResNet-18 and 60, for victim and copies; ActiveThief "
            "with 2 rounds instead of 10, JBDA left out."
        )
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        options |= {"owner": 30_000, "thief": 20_000, "triggers": 100, "bits": 3, "copy": 60.0}
        options["budget"], options["menu"], options["alpha"] = {}, {}, 1e-3
        data, shrinks = "cifar10, resnet18", ""
    settings = {}
    for name in chosen:
        method, parameters, answers = _ATTACKS[name]
        brief = {} if tier == "paper" else parameters
        attack = {"method": method, "parameters": brief, "answers": answers}
        settings[f"{name}; {data}"] = {**options, "attack": attack}
    seeds = 1 if tier == "quick" else 3
    return Grid(methods=METHODS, settings=settings, seeds=seeds, shrinks=shrinks)


@study(
    "honeypot-extraction",
    version=1,
    title="Honeypot: what a copy of a leaning model gives away",
    question="Does a copy trained on leaning answers fall for the key's waves, and no other copy?",
    grid=_grid,
    prepare=require_data,
    notes="The victim trains on the owner's images; the thief asks about the other training "
    "images. The lean is fitted on the first half of the test images within the default bounds "
    "(labels kept 99.5 %, 0.2 points of accuracy, 0.5 of calibration error, 6 of any class's share "
    "of the answers); everything is measured on the second half. Where the thief sees labels only, "
    "the lean may change labels (mode `label`), else it may not (mode `kept`). Success is the mean "
    "over the key's waves at 48/255; the whole curve is in the JSON file. The control is the copy "
    "of the undefended victim, with the same seeds and the same waves. The p-value is that of the "
    "claim's exact test, corrected for its looks; undefended rows must not be proven.",
    metrics=(
        Metric("substitute_attack_success", "Success", "percent", plot=True),
        Metric("log2_p", "p", "log2"),
        Metric("verified", "Proven", "yesno"),
        Metric("substitute_accuracy", "Copy's accuracy", "percent"),
        Metric("substitute_agreement", "Copy's agreement", "percent"),
        Metric("agreement", "Labels kept", "percent", "higher"),
        Metric("victim_accuracy_drop", "Accuracy lost (points)", "number", "lower"),
        Metric("ece_change", "Calibration error (points)", "number", "lower"),
        Metric("target_share", "Rise of a class (points)", "number", "lower"),
    ),
)
def honeypot_extraction(cell: Cell) -> Outcome:
    """Steal the cell's victim as the cell says, and try the key's waves on the copy."""
    who, attack = parties(cell), cell.options["attack"]
    half = len(who.test) // 2
    mine, test = who.test.split(half, len(who.test) - half, seed=0)
    victim = plain_model(cell, who.owner).model
    menu = make_menu(victim, mine, seed=cell.seed, **cell.options["menu"])
    secret = Secret(hashlib.sha256(f"study lean key {cell.seed}".encode()).digest())
    key = LeanKey(secret, LeanParameters(bits=cell.options["bits"]))
    served: nn.Module = victim
    fitted: LeanResult | None = None
    if cell.method == "lean":
        mode = "label" if attack["answers"] == "label" else "kept"
        budget = LeanBudget.from_dict(cell.options["budget"])
        served, fitted = fit_lean(victim, mine, key, budget=budget, mode=mode, menu=menu)  # type: ignore[arg-type]
    bits = key.choose(menu)
    copy, result = steal(
        served,
        who.thief,
        budget=len(who.thief),
        method=EXTRACTIONS[attack["method"]].from_dict(attack["parameters"]),
        answers=attack["answers"],
        substitute=cell.options["architecture"],
        options={} if cell.options["width"] is None else {"width": cell.options["width"]},
        recipe=recipe_of(cell, epochs=cell.options["copy"], seed=1000 + cell.seed),
        seed=1000 + cell.seed,
        validation=test,
        progress=False,
    )
    before, after = predict(victim, test), predict(served, test)
    cost = cost_of(before, after, test.labels, [bit.target for bit in bits])
    curve = {f"success_{level}": _success(copy, test, bits, level) for level in _LEVELS}
    metrics: dict[str, Any] = {
        "substitute_attack_success": curve[f"success_{_LEVELS[-1]}"],
        **curve,
        **_proof(key, menu, copy, test, cell.options["alpha"]),
        "substitute_accuracy": result.accuracy,
        "substitute_agreement": result.agreement,
        "queries": result.queries,
        "steal_seconds": result.seconds,
        "victim_accuracy": float((before.argmax(1) == test.labels).double().mean()),
        "agreement": cost.agreement,
        "victim_accuracy_drop": 100 * cost.accuracy_drop,
        "ece_change": 100 * (cost.ece_change or 0.0),
        "target_share": 100 * cost.target_share,
        "menu": len(menu),
    }
    if fitted is not None:
        metrics |= {
            "fit_seconds": fitted.seconds,
            "strength": fitted.strength,
            "threshold": fitted.threshold,
            "depth": fitted.depth,
            "sharpness": fitted.sharpness,
            "signal": fitted.signal,
            "signal_reached": fitted.reached,
        }
    return Outcome(metrics=metrics)


def _success(model: nn.Module, test: ImageData, bits: tuple[Bit, ...], level: int) -> float:
    """Attack success of the key's waves at an amplitude of `level`/255, the mean over them."""
    shares = [
        attack_success(
            model,
            test,
            Backdoor(
                Waves(across=bit.across, down=bit.down, amplitude=level / 255),
                AllToOne(target=bit.target),
            ),
        )
        for bit in bits
    ]
    return float(torch.tensor(shares).mean())


def _proof(
    key: LeanKey, menu: Menu, copy: nn.Module, test: ImageData, alpha: float
) -> dict[str, Any]:
    """The owner's test of a copy, by a claim made for this key."""
    owner = Identity.new("Owner")
    levels = [level / 255 for level in _LEVELS[-3:]]
    claim = make_claim(key, menu, owner, alpha=alpha, amplitudes=levels)
    verdict = verify_substitute(claim, key, copy, test, public=owner.public)
    return {
        "log2_p": verdict.log2_p,
        "verified": verdict.verified,
        "verification_images": verdict.images,
        "verification_queries": verdict.queries,
    }
