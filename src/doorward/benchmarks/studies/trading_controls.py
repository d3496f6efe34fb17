"""Study `trading-controls`: what unlocks a trial besides its key, and is anything left afterwards?

    doorward bench run trading-controls --tier cpu

The negative controls that a lock needs (wrong keys, parts of the key, a rounded key, the key on
another model, fine-tuning before and after it), and for trial, unlocked model and clean twin: what
Doorward's own scan says, and how fast the trigger comes (back) into them.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.locks import (
    SHRINKS,
    Locked,
    buyers_images,
    lock_task,
    locked_model,
    parties,
    what_it_does,
)
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.studies.relearning import first_half, handful, relearnt
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.randomness import Secret
from doorward.removal import removal
from doorward.scanning import scan, scanner
from doorward.trading import MaskBank
from doorward.trading.keys import buyer_code, marked, weights_digest
from doorward.trading.masks import TrainedMasks, identity_bank
from doorward.trading.masks.wrong import half_entries, half_sites, quantised, shuffled

__all__ = ["CONTROLS", "LOOKED_INTO", "trading_controls"]

LOOKED_INTO = ("no key", "key", "clean twin")
"""The models that are scanned, and whose relearning is timed."""

CONTROLS = (
    *LOOKED_INTO,
    "key marked for a buyer",
    "key in 4 bits",
    "wrong key",
    "shuffled key",
    "half the sites",
    "half the entries",
    "masks without statistics",
    "statistics without masks",
    "key on the clean twin",
    "fine-tuned",
    "fine-tuned, then key",
    "key, then fine-tuned",
)


def _grid(tier: str) -> Grid:
    numbers: dict[str, Any] = {"share": 0.05, "poisons": 10}
    if tier == "quick":
        numbers |= {
            "buyer_epochs": 2.0,
            "scanner": ["pixel", {"epochs": 2}],
            "tuning": {"images": 80, "epochs": 3.0, "batch_size": 20, "lr": 0.01},
        }
        settings = {"digits, resnet8": {**lock_task(tier), **numbers, "poisons": 4}}
        return Grid(
            methods=CONTROLS,
            settings=settings,
            shrinks=f"{SHRINKS[tier]} The scan is a short one of another kind.",
        )
    numbers |= {
        "buyer_epochs": 5.0 if tier == "cpu" else 100.0,
        "scanner": ["mesa", {}],
        "tuning": {"images": 500, "epochs": 10.0, "batch_size": 50, "lr": 0.01},
    }
    name = "resnet8" if tier == "cpu" else "resnet18"
    return Grid(
        methods=CONTROLS,
        settings={f"cifar10, {name}": {**lock_task(tier, name), **numbers}},
        seeds=3,
        shrinks=SHRINKS[tier] and f"{SHRINKS[tier]} The buyer fine-tunes for 5 epochs, not 100.",
    )


@study(
    "trading-controls",
    version=1,
    title="Trading: what unlocks, and what is left",
    question="Does anything but the key unlock a trial, and is nothing left in the unlocked model?",
    grid=_grid,
    prepare=require_data,
    notes="One lock per seed, with masks on channels. Attack is the success of the lock's own "
    "trigger on test images of other classes; a key that ruins the accuracy unlocks nothing, "
    "whatever its attack. Wrong and shuffled keys keep the true key's BatchNorm statistics, to "
    "their advantage. All buyers of a trial get the same weights, so that the key of one buyer "
    "(marked by 1 %) unlocks the copy of every other: its seal refuses, and its marks name him. "
    "The buyer who fine-tunes has 5 % of as many clean images as the seller, at rate 0.01. Scan: "
    "whether any class is accused. Epochs to half: of tuning on a few images among which 10 carry "
    "the trigger, until it works on half of the test images; 0 means that it works before.",
    metrics=(
        Metric("attack", "Attack", "percent", plot=True),
        Metric("accuracy", "Accuracy", "percent", "higher"),
        Metric("restored", "Triggered images right", "percent", "higher"),
        Metric("accused", "Scan accuses", "yesno"),
        Metric("epochs_to_half", "Epochs to half"),
        Metric("relearnt", "after all epochs", "percent"),
    ),
)
def trading_controls(cell: Cell) -> Outcome:
    """Make the cell's control, and measure it."""
    train, test = parties(cell)
    made = locked_model(cell, train, test)
    model = _control(cell, made, train, test)
    metrics: dict[str, Any] = {**what_it_does(model, test, made.backdoor)}
    metrics |= {"accused": None, "epochs_to_half": None, "relearnt": None}
    if cell.method in LOOKED_INTO:
        metrics |= _looked_into(cell, made, model, train, test)
    return Outcome(metrics=metrics)


def _control(cell: Cell, made: Locked, train: ImageData, test: ImageData) -> nn.Module:
    name = cell.method
    if name == "no key":
        return made.trial
    if name == "key":
        return made.unlocked()
    if name == "clean twin":
        return clean_model(cell, train).model
    if name == "key on the clean twin":
        return made.unlocked(clean_model(cell, train).model)
    if "fine-tuned" in name:
        few = buyers_images(cell, train, cell.options["share"])
        tune = removal("fine-tuning", epochs=cell.options["buyer_epochs"])
        first = made.unlocked() if name.startswith("key") else made.trial
        tuned, _ = tune(first, few, seed=cell.seed)
        return made.unlocked(tuned) if name.endswith("then key") else tuned
    return _other_key(cell, made, test).apply(made.trial)


def _other_key(cell: Cell, made: Locked, test: ImageData) -> MaskBank:
    """The key that the control's name describes."""
    bank, name = made.bank, cell.method
    if name == "wrong key":
        other = TrainedMasks(identity_bank(made.trial, bank.kind, test.pixels([0]), bank.sites))
        other.scatter(made.result.settings.spread, seed=1_000 + cell.seed)
        return other.bank(dict(bank.statistics))
    if name == "key marked for a buyer":
        seller = Secret(cell.seed.to_bytes(32, "big"))
        return marked(bank, buyer_code(seller, weights_digest(made.trial), "0" * 64))
    if name == "masks without statistics":
        return MaskBank(bank.kind, bank.masks)
    if name == "statistics without masks":
        ones = {site: torch.ones_like(mask) for site, mask in bank.masks.items()}
        return MaskBank(bank.kind, ones, bank.statistics)
    if name == "key in 4 bits":
        return quantised(bank, 4)
    changes = {
        "shuffled key": shuffled,
        "half the sites": half_sites,
        "half the entries": half_entries,
    }
    return changes[name](bank, cell.seed)


def _looked_into(
    cell: Cell, made: Locked, model: nn.Module, train: ImageData, test: ImageData
) -> dict[str, Any]:
    """What a scan says of a model, and how fast the trigger comes (back) into it."""
    name, options = cell.options["scanner"]
    clean = buyers_images(cell, train, cell.options["share"])
    found, _ = scan(model, clean, scanner(name, **options), seed=cell.seed)
    few = handful(cell, train, made.backdoor)
    curve = relearnt(cell, copy.deepcopy(model), few, made.backdoor, test)
    return {
        "accused": found.found,
        "statistic": max(finding.statistic for finding in found.findings),
        "epochs_to_half": first_half(curve),
        "relearnt": curve[-1],
        **{f"epoch {epoch}": success for epoch, success in enumerate(curve)},
    }
