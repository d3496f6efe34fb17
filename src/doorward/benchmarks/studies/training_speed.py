"""Study `training-speed`: the loop of `training.fit` against the plain way, side by side.

    doorward bench run training-speed --tier cpu

*Ours* is `training.fit` as users call it: uint8 images resident on the device, augmentation in
batches, bf16 autocast where the hardware has it, channels-last. *Plain* is what tutorials write
(see `doorward.benchmarks.studies.plain`). *Bare* is the network alone: forward, backward and
optimiser on one batch that is ready, in our precision and layout; what a step of ours takes beyond
that is overhead. The three alternate within one process, several times, after a warm-up, and the
median of each counts, so that a machine that slows down slows down all of them. All three share the
process, so what `doorward.training.allocator` gains is given to all; one setting leaves the
allocator alone, to show what it is worth.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
from typing import Any

import torch

from doorward.benchmarks.studies.common import load_pair, new_model, recipe_of, require_data, task
from doorward.benchmarks.studies.plain import bare_step_seconds, plain_images_per_second
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.data import ImageData
from doorward.training import fit

__all__ = ["training_speed"]


def _setting(
    dataset: str,
    architecture: str,
    sizes: dict[str, Any],
    *,
    width: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    options = task(dataset, architecture, width=width, size=size, batch_size=128)
    return {**options, **sizes}


def _grid(tier: str) -> Grid:
    sizes: dict[str, Any]
    method = ("ours and plain, alternating",)
    if tier == "quick":
        return Grid(
            methods=method,
            settings={
                "digits 16x16, resnet8 (width 16)": _setting(
                    "digits",
                    "resnet8",
                    width=16,
                    size=16,
                    sizes={"steps": 6, "plain_steps": 4, "repeats": 2, "workers": [0]},
                )
            },
            shrinks="Digits, a narrow network and a handful of steps: this checks that the study "
            "works; its numbers mean little. The plain way is tried without workers only.",
        )
    if tier == "cpu":
        sizes = {"repeats": 3, "workers": [0, 2]}
        return Grid(
            methods=method,
            settings={
                "cifar10, resnet8": _setting(
                    "cifar10", "resnet8", {**sizes, "steps": 40, "plain_steps": 15}
                ),
                "cifar10, resnet8, allocator left alone": _setting(
                    "cifar10",
                    "resnet8",
                    {**sizes, "steps": 40, "plain_steps": 15, "keep_memory": False},
                ),
                "cifar10, resnet18": _setting(
                    "cifar10", "resnet18", {**sizes, "steps": 8, "plain_steps": 4}
                ),
            },
            seeds=2,
            shrinks="Some dozens of steps instead of a whole training.",
        )
    sizes = {"repeats": 5, "workers": [0, 2, 8], "steps": 300, "plain_steps": 100}
    return Grid(
        methods=method,
        settings={
            "cifar10, resnet8": _setting("cifar10", "resnet8", sizes),
            "cifar10, resnet18": _setting("cifar10", "resnet18", sizes),
        },
        seeds=3,
    )


@study(
    "training-speed",
    version=1,
    title="Training: speed",
    question="How many times faster is our training loop than the plain way, and how much of its "
    "time is not the network itself?",
    grid=_grid,
    prepare=require_data,
    notes="Plain: a torch DataLoader with per-image crop, flip and normalisation, fp32, contiguous "
    "layout; the best number of workers counts. Outside the network: share of a step of ours that "
    "a bare forward, backward and optimiser step on a ready batch does not take; noise can make it "
    "slightly negative.",
    metrics=(
        Metric("ratio", "Ours / plain", "ratio", "higher", plot=True),
        Metric("images_per_second", "Ours (images/s)", better="higher"),
        Metric("plain_images_per_second", "Plain (images/s)"),
        Metric("overhead", "Outside the network", "percent", "lower"),
        Metric("overhead_inside", "By the loop's clock", "percent", "lower"),
        Metric("precision", "Precision"),
        Metric("plain_workers", "Workers of plain"),
    ),
)
def training_speed(cell: Cell) -> Outcome:
    """Ours, bare and plain, alternating; medians."""
    options = cell.options
    if not options.get("keep_memory", True):
        os.environ["DOORWARD_KEEP_MEMORY"] = "0"  # the engine gives each cell its own process
    source, _ = load_pair(cell)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    _ours(cell, source, steps=min(3, options["steps"]))  # warm-up: kernels, allocator, threads
    ours: list[float] = []
    bare: list[float] = []
    inside: list[float] = []
    plain: dict[int, list[float]] = {workers: [] for workers in options["workers"]}
    precision = ""
    for _ in range(options["repeats"]):
        result = _ours(cell, source, steps=options["steps"])
        precision = result.precision
        ours.append(result.samples_per_second)
        inside.append(result.overhead)
        model, recipe = new_model(cell, source), recipe_of(cell)
        bare.append(
            bare_step_seconds(
                model, source, recipe, device, precision=precision, steps=options["steps"]
            )
        )
        for workers, speeds in plain.items():
            model = new_model(cell, source)
            speeds.append(
                plain_images_per_second(
                    model, source, recipe, device, workers=workers, steps=options["plain_steps"]
                )
            )
    speed = statistics.median(ours)
    medians = {workers: statistics.median(speeds) for workers, speeds in plain.items()}
    best = max(medians, key=lambda workers: medians[workers])
    batch_size = int(options["recipe"]["batch_size"])
    return Outcome(
        metrics={
            "ratio": speed / medians[best],
            "images_per_second": speed,
            "plain_images_per_second": medians[best],
            "overhead": 1 - statistics.median(bare) / (batch_size / speed),
            "overhead_inside": statistics.median(inside),
            "precision": precision,
            "plain_workers": best,
            **{f"plain_{workers}_workers": value for workers, value in medians.items()},
            "step_seconds": batch_size / speed,
            "bare_step_seconds": statistics.median(bare),
        }
    )


def _ours(cell: Cell, source: ImageData, *, steps: int) -> Any:
    # Whole batches only: the last, smaller one of an epoch would be another shape to compile for.
    recipe = dataclasses.replace(
        recipe_of(cell), max_steps=steps, epochs=float(steps), drop_last=True
    )
    return fit(new_model(cell, source), None, source, recipe)
