"""Study `training-accuracy`: how well, and how fast, the recipes that come with Doorward train.

doorward bench run training-accuracy --tier cpu --seeds 3
"""

from __future__ import annotations

from doorward.benchmarks.studies.common import (
    load_pair,
    new_model,
    recipe_of,
    require_data,
    task,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.training import fit

__all__ = ["training_accuracy"]


def _grid(tier: str) -> Grid:
    if tier == "quick":
        return Grid(
            methods=("recipe",),
            settings={
                "digits 16x16, resnet8 (width 16)": task(
                    "digits", "resnet8", width=16, size=16, epochs=5.0
                )
            },
            seeds=2,
            shrinks="Digits of 16x16 pixels instead of CIFAR-10, a network of half the width, and "
            "5 epochs.",
        )
    if tier == "cpu":
        return Grid(
            methods=("recipe",),
            settings={"cifar10, resnet8": task("cifar10", "resnet8")},
            seeds=3,
            shrinks="ResNet-8 and few epochs instead of ResNet-18 and 200.",
        )
    return Grid(
        methods=("recipe",),
        settings={
            "cifar10, resnet8": task("cifar10", "resnet8"),
            "cifar10, resnet18": task("cifar10", "resnet18", epochs=60.0),
        },
        seeds=5,
    )


@study(
    "training-accuracy",
    version=1,
    title="Training: accuracy",
    question="How accurate a model do the built-in recipes give, and how long does that take?",
    grid=_grid,
    prepare=require_data,
    notes="Accuracy on the official test images, measured once, after the last step: no epoch was "
    "chosen by looking at them.",
    metrics=(
        Metric("accuracy", "Test accuracy", "percent", "higher", plot=True),
        Metric("train_seconds", "Training (s)", better="lower"),
        Metric("images_per_second", "Images/s", better="higher"),
        Metric("overhead", "Outside the network", "percent", "lower"),
        Metric("epochs", "Epochs"),
        Metric("precision", "Precision"),
    ),
)
def training_accuracy(cell: Cell) -> Outcome:
    """Train by the recipe; measure accuracy and time."""
    train, test = load_pair(cell)
    model = new_model(cell, train)
    result = fit(model, None, train, recipe_of(cell), validation=test, validate="end")
    return Outcome(
        metrics={
            "accuracy": result.final["validation_accuracy"],
            "train_seconds": result.seconds - result.validation_seconds,
            "images_per_second": result.samples_per_second,
            "overhead": result.overhead,
            "epochs": result.epochs,
            "steps": result.steps,
            "precision": result.precision,
            "final_loss": result.final["loss"],
        }
    )
