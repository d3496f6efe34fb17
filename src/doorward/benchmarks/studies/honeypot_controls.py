"""Study `honeypot-controls`: is it the honeypot that a copy falls for, or would any trigger do?

    doorward bench run honeypot-controls --tier cpu

One row is one way to a honeypot. Beside the success of its trigger on a copy of the guarded victim
stands that on everything which must *not* fall for it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.honeypots import (
    Guarded,
    copy_of,
    guard,
    independent,
    key_of_lean,
    options_of,
    success,
    waves_of,
)
from doorward.benchmarks.studies.victims import parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.honeypot.head import Place, search
from doorward.honeypot.head.patch import targeted
from doorward.honeypot.lean import cost_of
from doorward.metrics import accuracy, predict
from doorward.metrics.predictions import device_of
from doorward.triggers import AllToOne, Backdoor, Patch

__all__ = ["METHODS", "honeypot_controls"]

METHODS = ("lean", "look-ahead", "faithful", "look-ahead + lean")


def _grid(tier: str) -> Grid:
    options, name, shrinks = options_of(tier)
    options["uap"] = 5 if tier == "quick" else 60
    return Grid(
        methods=METHODS,
        settings={name: options},
        seeds=1 if tier == "quick" else 3,
        shrinks=shrinks,
    )


@study(
    "honeypot-controls",
    version=1,
    title="Honeypot: against its controls",
    question="Does a copy fall for the trigger because of the honeypot, and not for any trigger?",
    grid=_grid,
    prepare=require_data,
    notes="Soft answers to a pool disjoint from the victim's images. Success is the mean over the "
    "triggers of a method: waves at 48/255, a patch of 6 of 32 pixels. Controls: the copy of the "
    "undefended victim, with the same seeds; independent models, trained on the owner's images; a "
    "trigger that was not chosen (a random patch of the same size and class, the waves of another "
    "key) on the guarded copy; and a universal adversarial patch, searched on one copy of the "
    "undefended victim and tried on another. The gap is what is left over the worst of these. The "
    "bounds are those of `honeypot-extraction`; the paper's loop heeds none.",
    metrics=(
        Metric("substitute_attack_success", "Success", "percent", "higher", plot=True),
        Metric("gap", "Gap (points)", "number", "higher"),
        Metric("control_undefended", "Undefended copy", "percent", "lower"),
        Metric("control_independent", "Independent, mean", "percent", "lower"),
        Metric("control_independent_worst", "worst", "percent", "lower"),
        Metric("control_other", "Other trigger", "percent", "lower"),
        Metric("control_uap", "UAP alone", "percent", "lower"),
        Metric("substitute_accuracy", "Copy's accuracy", "percent"),
        Metric("agreement", "Labels kept", "percent", "higher"),
        Metric("victim_accuracy_drop", "Accuracy lost (points)", "number", "lower"),
        Metric("ece_change", "Calibration error (points)", "number", "lower"),
        Metric("fit_seconds", "Fitting (s)", "number", "lower"),
    ),
)
def honeypot_controls(cell: Cell) -> Outcome:
    """Guard the victim as the cell says, and try its trigger on the copy and on all controls."""
    who = parties(cell)
    half = len(who.test) // 2
    mine, test = who.test.split(half, len(who.test) - half, seed=0)
    victim = plain_model(cell, who.owner).model
    guarded = guard(cell, victim, mine, who.owner, cell.method)
    copy = copy_of(cell, guarded.model, who.thief)
    plain = copy_of(cell, victim, who.thief)
    others = [
        success(model, test, guarded.triggers)
        for model in independent(cell, who.owner, cell.options["independent"])
    ]
    controls = {
        "control_undefended": success(plain, test, guarded.triggers),
        "control_independent": sum(others) / len(others),
        "control_independent_worst": max(others),
        "control_other": success(copy, test, _others(cell, guarded, test)),
        "control_uap": _universal(cell, victim, plain, who.thief, test),
    }
    reached = success(copy, test, guarded.triggers)
    before, after = predict(victim, test), predict(guarded.model, test)
    targets = [trigger.rule.classes_used()[0] for trigger in guarded.triggers]
    cost = cost_of(before, after, test.labels.cpu(), targets)
    metrics: dict[str, Any] = {
        "substitute_attack_success": reached,
        "gap": 100 * (reached - max(controls.values())),
        **controls,
        "substitute_accuracy": accuracy(copy, test),
        "control_accuracy": accuracy(plain, test),
        "victim_accuracy": accuracy(victim, test),
        "victim_attack_success": success(guarded.model, test, guarded.triggers),
        "agreement": cost.agreement,
        "victim_accuracy_drop": 100 * cost.accuracy_drop,
        "ece_change": 100 * (cost.ece_change or 0.0),
        "target_share": 100 * cost.target_share,
        "fit_seconds": guarded.seconds,
    }
    return Outcome(metrics=metrics)


def _others(cell: Cell, guarded: Guarded, test: ImageData) -> tuple[Backdoor, ...]:
    """Triggers of the same kind that were not chosen."""
    mine = waves_of(guarded.key, guarded.menu)
    found: list[Backdoor] = []
    for trigger in guarded.triggers:
        if not isinstance(trigger.trigger, Patch):
            continue
        side, place = trigger.trigger.size[0], trigger.trigger.position
        noise = Patch(size=side, pattern="noise", position=place, seed=cell.seed + 1)
        found.append(Backdoor(noise, trigger.rule))
    if any(not isinstance(trigger.trigger, Patch) for trigger in guarded.triggers):
        known = {str(trigger.to_dict()) for trigger in mine}
        drawn = (
            wave
            for number in range(100)
            for wave in waves_of(key_of_lean(cell, f"other {number}"), guarded.menu)
        )
        free = [wave for wave in drawn if str(wave.to_dict()) not in known]
        found += free[: len(mine)]
    return tuple(found)


def _universal(
    cell: Cell, victim: nn.Module, plain: nn.Module, pool: ImageData, test: ImageData
) -> float:
    """Success on one undefended copy of a patch that was searched on another."""
    shadow = copy_of(cell, victim, pool, seed=2000).requires_grad_(False)
    target, place = test.num_classes - 1, Place.corner(test.image_shape)
    start = torch.zeros(test.image_shape[0], place.side, place.side, device=device_of(shadow))
    contrast = search(
        lambda stamped, _: targeted(shadow(stamped), target),
        pool,
        place,
        start,
        updates=cell.options["uap"],
        images=512,
    )
    backdoor = Backdoor(place.trigger(contrast.cpu()), AllToOne(target=target))
    return success(plain, test, (backdoor,))
