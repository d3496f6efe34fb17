"""Study `trading-ablation`: which masks, where, and with which of the lock's parts?

    doorward bench run trading-ablation --tier cpu

The paper (Xu et al. 2024) leaves the kind of the masks and their places open. Every kind at its
default sites, masks on channels at fewer of them, and the parts of the training one by one.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doorward.benchmarks.studies.common import new_model, require_data
from doorward.benchmarks.studies.locks import (
    PLAIN,
    SHRINKS,
    Locked,
    buyers_images,
    lock_task,
    locked_model,
    parties,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.metrics import accuracy, attack_success
from doorward.randomness import derive_seed
from doorward.removal import removal
from doorward.trading import MASKS, AntiRecovery, Locking, MaskBank
from doorward.trading.masks import TrainedMasks, default_sites, identity_bank, keyed_bank
from doorward.trading.masks.placing import named_secret

__all__ = ["VARIANTS", "Variant", "trading_ablation"]


@dataclasses.dataclass(frozen=True)
class Variant:
    """One lock of the ablation.

    Args:
        masks: their kind.
        settings: of the lock.
        share: of the default sites that are masked, counted from the last one back.
    """

    masks: str = "channel"
    settings: Locking = PLAIN
    share: float = 1.0


def _changed(**changes: Any) -> Variant:
    return Variant(settings=dataclasses.replace(PLAIN, **changes))


VARIANTS: dict[str, Variant] = {
    **{name: Variant(masks=name) for name in MASKS},
    "channel, last quarter of the sites": Variant(share=0.25),
    "channel, last half of the sites": Variant(share=0.5),
    "channel, the trial's statistics": _changed(statistics="trial"),
    "channel, PCGrad": _changed(pcgrad=True),
    "channel, anti-recovery": _changed(anti_recovery=AntiRecovery()),
    "channel, begun at one": _changed(spread=0.0),
}
"""All locks by the name under which they are shown; the first one is the default."""


def _grid(tier: str) -> Grid:
    few = ("channel", "sign", "channel, last quarter of the sites")
    name = {"quick": "digits, resnet8", "cpu": "cifar10, resnet8"}.get(tier, "cifar10, resnet18")
    return Grid(
        methods=few if tier == "quick" else tuple(VARIANTS),
        settings={
            name: {
                **lock_task(tier, name.partition(", ")[2]),
                "share": 0.05,
                "buyer_epochs": {"quick": 2.0, "cpu": 20.0}.get(tier, 100.0),
            }
        },
        seeds=3 if tier == "paper" else 1,
        shrinks=SHRINKS[tier] and f"{SHRINKS[tier]} One seed.",
    )


@study(
    "trading-ablation",
    version=1,
    title="Trading: kinds of masks, places, parts of the training",
    question="Which masks, at which places, and which parts of the training make a good lock?",
    grid=_grid,
    prepare=require_data,
    notes="All locks train the same network on the same images by the same recipe, with a learnt "
    "pattern of at most 8 grey levels as trigger. Wrong key: other masks of the same kind, under "
    "the true statistics. Fine-tuned: by a buyer without the key who has 5 % of as many clean "
    "images, at rate 0.01.",
    metrics=(
        Metric("trial_accuracy", "Trial", "percent", "higher"),
        Metric("trial_attack", "Trigger on trial", "percent", "higher"),
        Metric("unlocked_accuracy", "Unlocked", "percent", "higher"),
        Metric("unlocked_attack", "Trigger unlocked", "percent", "lower", plot=True),
        Metric("restored_accuracy", "Triggered images right", "percent", "higher"),
        Metric("wrong_key_attack", "Trigger, wrong key", "percent", "higher"),
        Metric("wrong_key_accuracy", "Wrong key", "percent"),
        Metric("tuned_attack", "Trigger, fine-tuned", "percent", "higher", plot=True),
        Metric("sites", "Sites"),
        Metric("key_bytes", "Key (bytes)"),
        Metric("folds", "Folds", "yesno"),
        Metric("train_seconds", "Seconds to lock"),
    ),
)
def trading_ablation(cell: Cell) -> Outcome:
    """Make the cell's lock and measure it, with a wrong key and without one."""
    train, test = parties(cell)
    variant = VARIANTS[cell.method]
    made = locked_model(
        cell,
        train,
        test,
        masks=variant.masks,
        sites=_sites(cell, variant, train),
        settings=variant.settings,
    )
    wrong = _wrong_key(cell, made, test).apply(made.trial)
    tune = removal("fine-tuning", epochs=cell.options["buyer_epochs"])
    tuned, _ = tune(made.trial, buyers_images(cell, train, cell.options["share"]), seed=cell.seed)
    result, outcome = made.result, made.result.outcome
    return Outcome(
        metrics={
            "trial_accuracy": outcome.trial_accuracy,
            "trial_attack": outcome.trial_attack_success,
            "unlocked_accuracy": outcome.unlocked_accuracy,
            "unlocked_attack": outcome.unlocked_attack_success,
            "restored_accuracy": outcome.restored_accuracy,
            "wrong_key_attack": attack_success(wrong, test, made.backdoor),
            "wrong_key_accuracy": accuracy(wrong, test),
            "tuned_attack": attack_success(tuned, test, made.backdoor),
            "tuned_accuracy": accuracy(tuned, test),
            "sites": len(result.sites),
            "key_bytes": result.key_bytes,
            "folds": result.foldable,
            "train_seconds": result.fit.seconds,
        }
    )


def _sites(cell: Cell, variant: Variant, train: ImageData) -> tuple[str, ...] | None:
    """The last sites of the kind's defaults; None for all of them."""
    if variant.share == 1:
        return None
    names = default_sites(new_model(cell, train).eval(), variant.masks, train.pixels([0]))
    return tuple(names[-max(1, round(variant.share * len(names))) :])


def _wrong_key(cell: Cell, made: Locked, test: ImageData) -> MaskBank:
    """Masks of the same kind that were never trained with this trial."""
    bank, images = made.bank, test.pixels([0])
    seed = derive_seed(cell.seed, "wrong key")
    if MASKS[bank.kind].keyed:
        other = keyed_bank(made.trial, bank.kind, images, named_secret(seed), bank.sites)
        return MaskBank(bank.kind, other.masks, bank.statistics)
    masks = TrainedMasks(identity_bank(made.trial, bank.kind, images, bank.sites))
    masks.scatter(1.0, seed)
    return masks.bank(dict(bank.statistics))
