"""Study `trading-security`: what does a model without its trigger cost a buyer who does not pay?

    doorward bench run trading-security --tier cpu

Every known way to a purified model, on the trial alone, with 1, 5, 10 and 20 % of as many clean
images as the seller has; against a plain lock, and one trained against simulated buyers. A lock is
as strong as the cheapest of them: the price of cheating, in data, time and accuracy.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.locks import (
    PLAIN,
    SHRINKS,
    buyers_images,
    lock_task,
    locked_model,
    parties,
    what_it_does,
)
from doorward.benchmarks.studies.removal_methods import parameters
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.removal import Removal, removal
from doorward.trading import AntiRecovery
from doorward.trading.buyers import Copying, OwnMasks

__all__ = ["BUYERS", "buyer", "trading_security"]

_RATES = {"fine-tuning 0.01": 0.01, "fine-tuning 0.05": 0.05, "fine-tuning 0.1": 0.1}
_ANEW = ("own masks", "distillation")
BUYERS = (
    "nothing",
    *_RATES,
    "fine-pruning",
    "nad",
    "anp",
    "rnp",
    "fst",
    "ft-sam",
    "nc-unlearning",
    "i-bau",
    *_ANEW,
)
"""Ways to use the trial without its key."""

LOCKS = {"plain": PLAIN, "anti-recovery": dataclasses.replace(PLAIN, anti_recovery=AntiRecovery())}
SUCCESS, MAY_COST = 0.1, 1.0
"""A buyer succeeds if the trigger works on less than that, for at most so many points."""


def _grid(tier: str) -> Grid:
    shares = [0.1] if tier == "quick" else [0.01, 0.05, 0.1, 0.2]
    few = ("nothing", "fine-tuning 0.05", "fine-pruning", "own masks", "distillation")
    name = {"quick": "digits, resnet8", "cpu": "cifar10, resnet8"}.get(tier, "cifar10, resnet18")
    options = lock_task(tier, name.partition(", ")[2])
    return Grid(
        methods=few if tier == "quick" else BUYERS,
        settings={
            f"{lock} lock, {share:.0%} clean; {name}": {
                **options,
                "lock": lock,
                "share": share,
                "methods": _numbers(tier, share),
            }
            for lock in LOCKS
            for share in shares
        },
        seeds=3 if tier == "paper" else 1,
        shrinks=SHRINKS[tier]
        and f"{SHRINKS[tier]} One seed; buyers pass over as many images as the seller has, once "
        "(own masks and distillation three times).",
    )


def _numbers(tier: str, share: float) -> dict[str, dict[str, Any]]:
    """Parameters of the methods: all pass over about as many images, however few are clean."""
    if tier == "paper":
        tuned, anew, shared = {"epochs": 100.0}, {"epochs": 200.0}, {}
    else:
        passes = 0.3 if tier == "quick" else 1.0
        # The board gives its methods a quarter of a pass over the training set; buyers work longer.
        shared = parameters("cpu", share / (4 * passes))["methods"]
        tuned = {"epochs": passes / share, "batch_size": 64}
        # Masks that begin at random and networks that are drawn anew have further to go.
        anew = {"epochs": 3 * passes / share, "batch_size": 64}
    numbers = {name: changed for name, changed in shared.items() if name in BUYERS}
    return numbers | dict.fromkeys(_RATES, tuned) | dict.fromkeys(_ANEW, anew)


@study(
    "trading-security",
    version=1,
    title="Trading: the price of cheating",
    question="What does a usable model without its trigger cost a buyer who does not pay?",
    grid=_grid,
    prepare=require_data,
    notes="The buyer knows the lock but neither key nor trigger. Attack is the success of the "
    "lock's own trigger on test images of other classes, cost is in points of the trial's accuracy "
    "on test images. A buyer succeeds where the trigger works on less than 10 % of images for at "
    "most 1 point. Fine-tuning is shown at three learning rates. Own masks are of the key's kind "
    "and places, begun like the key's, and fitted to the clean images. Distillation draws a new "
    "network. Weak attacks prove nothing: a lock withstands what stands here, with these numbers.",
    metrics=(
        Metric("attack", "Attack", "percent", "higher", plot=True),
        Metric("cost", "Costs the buyer (points)", "number", "higher"),
        Metric("succeeds", "Buyer succeeds", "yesno"),
        Metric("accuracy", "Accuracy", "percent"),
        Metric("images", "Clean images"),
        Metric("seconds", "Seconds"),
        Metric("trial_accuracy", "Trial", "percent"),
        Metric("trial_attack", "Attack on trial", "percent"),
    ),
)
def trading_security(cell: Cell) -> Outcome:
    """Let the cell's buyer work on the cell's lock."""
    train, test = parties(cell)
    made = locked_model(cell, train, test, settings=LOCKS[cell.options["lock"]])
    clean = buyers_images(cell, train, cell.options["share"])
    method = buyer(cell.method, cell.options["methods"].get(cell.method, {}))
    model: nn.Module = made.trial
    seconds = 0.0
    if method is not None:
        model, told = method(made.trial, clean, seed=cell.seed)
        seconds = told.seconds
    found, before = what_it_does(model, test, made.backdoor), made.result.outcome
    cost = 100 * (before.trial_accuracy - found["accuracy"])
    return Outcome(
        metrics={
            **found,
            "cost": cost,
            "succeeds": found["attack"] < SUCCESS and cost <= MAY_COST,
            "images": len(clean),
            "seconds": seconds,
            "trial_accuracy": before.trial_accuracy,
            "trial_attack": before.trial_attack_success,
        }
    )


def buyer(name: str, numbers: dict[str, Any]) -> Removal | None:
    """A way to use the trial without its key, by its name in `BUYERS`; None for as it is."""
    if name == "nothing":
        return None
    if name == "own masks":
        return OwnMasks(**numbers)
    if name == "distillation":
        return Copying(**numbers)
    if name in _RATES:
        return removal("fine-tuning", **{**numbers, "lr": _RATES[name]})
    return removal(name, **numbers)
