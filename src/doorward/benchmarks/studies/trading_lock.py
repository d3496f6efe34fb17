"""Study `trading-lock`: does a trial obey its trigger, and does its key withdraw it, at what cost?

    doorward bench run trading-lock --tier cpu

A lock per architecture and seed beside a clean twin: the same network, trained by the same recipe
and seed without a lock. Of the paper (Xu et al. 2024) only the abstract is known to us: there are
no numbers of its own to compare with.
"""

from __future__ import annotations

from typing import Any

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.locks import SHRINKS, lock_task, locked_model, parties
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.metrics import accuracy, attack_success

__all__ = ["trading_lock"]

_SMALL = {"resnet8": 16, "resnet20": 8, "vgg11-bn": 16}
"""Networks of the cpu tier, with their widths."""
_LARGE = ("resnet18", "preact-resnet18", "vgg16-bn")


def _grid(tier: str) -> Grid:
    if tier == "quick":
        return Grid(
            methods=("channel",),
            settings={"digits, resnet8": lock_task(tier)},
            shrinks=SHRINKS[tier],
        )
    if tier == "cpu":
        return Grid(
            methods=("channel",),
            settings={f"cifar10, {name}": lock_task(tier, name, w) for name, w in _SMALL.items()},
            seeds=3,
            shrinks=f"{SHRINKS[tier]} Twins alike.",
        )
    return Grid(
        methods=("channel", "channel-binary", "element", "sign"),
        settings={f"cifar10, {name}": lock_task(tier, name) for name in _LARGE},
        seeds=3,
    )


@study(
    "trading-lock",
    version=1,
    title="Trading: a lock and its key",
    question="Does a trial obey its trigger, does the key withdraw it, and what does that cost?",
    grid=_grid,
    prepare=require_data,
    notes="Methods are kinds of masks. A clean twin is the same network trained by the same recipe "
    "and seed without a lock; costs are in points of its accuracy. The trigger is one additive "
    "pattern of at most 8 grey levels, learnt along; how visible it is stands with the rows (PSNR, "
    "SSIM; LPIPS is not measured, since it needs weights that Doorward does not ship). Attack "
    "success is the share of triggered test images of other classes that get the target. Where the "
    "unlocked graph is the trial's, the key costs no time at all.",
    metrics=(
        Metric("clean_accuracy", "Clean twin", "percent", "higher"),
        Metric("trial_cost", "Trial costs (points)", "number", "lower"),
        Metric("trial_attack", "Trigger on trial", "percent", "higher", plot=True),
        Metric("unlocked_cost", "Unlocked costs (points)", "number", "lower"),
        Metric("unlocked_attack", "Trigger unlocked", "percent", "lower", plot=True),
        Metric("clean_attack", "Trigger on twin", "percent"),
        Metric("restored_gap", "Triggered images lose (points)", "number", "lower"),
        Metric("psnr", "PSNR of the trigger (dB)", "number", "higher"),
        Metric("ssim", "SSIM", "number", "higher"),
        Metric("key_bytes", "Key (bytes)"),
        Metric("same_graph", "Same graph unlocked", "yesno"),
        Metric("train_seconds", "Seconds to lock", "number", "lower"),
    ),
)
def trading_lock(cell: Cell) -> Outcome:
    """Make the cell's lock and its twin, and measure both."""
    train, test = parties(cell)
    twin = clean_model(cell, train).model
    made = locked_model(cell, train, test, masks=cell.method)
    outcome, strength = made.result.outcome, made.result.strength
    clean = accuracy(twin, test)
    metrics: dict[str, Any] = {
        "clean_accuracy": clean,
        "clean_attack": attack_success(twin, test, made.backdoor),
        "trial_accuracy": outcome.trial_accuracy,
        "trial_cost": 100 * (clean - outcome.trial_accuracy),
        "trial_attack": outcome.trial_attack_success,
        "unlocked_accuracy": outcome.unlocked_accuracy,
        "unlocked_cost": 100 * (clean - outcome.unlocked_accuracy),
        "unlocked_attack": outcome.unlocked_attack_success,
        "restored_accuracy": outcome.restored_accuracy,
        "restored_gap": 100 * (outcome.unlocked_eligible_accuracy - outcome.restored_accuracy),
        "psnr": strength.psnr,
        "ssim": strength.ssim,
        "key_bytes": made.result.key_bytes,
        "same_graph": list(made.unlocked().state_dict()) == list(made.trial.state_dict()),
        "train_seconds": made.result.fit.seconds,
    }
    return Outcome(
        metrics=metrics, strength={k: v for k, v in strength.to_dict().items() if v is not None}
    )
