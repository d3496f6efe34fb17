"""The parts of a step that stand on their own: its module, and its ways to fail.

>>> from doorward.training.recipe import Recipe
>>> print(diverged_at(119, 400, 0.4, Recipe(lr=0.4), Fault(119, float("nan"))))
training diverged at step 120 of 400: the loss is nan (learning rate 0.4). Lower lr (try 0.04), ...
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import TrainingDiverged, TrainingInterrupted
from doorward.training.ledger import Fault
from doorward.training.objectives import Objective
from doorward.training.recipe import Recipe

__all__ = ["Parcel", "StepModule", "diverged_at", "interrupted_at"]


class Parcel:
    """A batch that Fabric and DDP pass on unopened (they would copy its tensors and rebuild it)."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch


class StepModule(nn.Module):
    """The whole computation of a step as one module.

    Fabric wraps this instead of the model, so that autocast and gradient averaging cover whatever
    an objective does with the model: call it twice, ask for its features, leave out its head.

    Args:
        model: whose parameters are trained.
        callee: what the objective is given: the model, or its compiled form.
        objective: what is minimised.
    """

    def __init__(self, model: nn.Module, callee: Any, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._parts = (callee, objective)  # in a tuple, so that neither becomes a submodule

    def forward(self, parcel: Parcel) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """Loss and scalars."""
        callee, objective = self._parts
        result: tuple[Tensor, Mapping[str, Tensor | float]] = objective(callee, parcel.batch)
        return result


def diverged_at(
    step: int, steps: int, rate: float, recipe: Recipe, fault: Fault | None
) -> TrainingDiverged:
    """The error for a run whose loss or weights are beyond repair (`step` counts from 0)."""
    found = f"the loss is {fault.loss:.4g}" if fault else "the loss or a weight is not finite"
    if fault and math.isfinite(fault.loss):
        found += f", past the limit of divergence={recipe.divergence:g} times the first loss"
    remedies = [f"lower lr (try {recipe.lr / 10:.2g})", "lengthen warmup"]
    if recipe.clip_norm is None:
        remedies.append("set clip_norm=1.0")
    if recipe.batchnorm == "frozen":
        # Nothing then rescales activations that grow with the weights.
        remedies.append('let BatchNorm follow (batchnorm="train" or "clean-only")')
    if recipe.precision != "fp32":
        remedies.append('try precision="fp32"')
    return TrainingDiverged(
        f"training diverged at step {step + 1} of {steps}",
        why=f"{found} (learning rate {rate:.3g})",
        remedy=", ".join(remedies),
    )


def interrupted_at(step: int, steps: int, folder: Path | None) -> TrainingInterrupted:
    """The error for a run that was told to stop, saying how to go on."""
    if folder is None:
        return TrainingInterrupted(
            f"training was stopped at step {step} of {steps}",
            why="no checkpoint folder was given, so nothing was saved",
            remedy="give one next time to be able to resume",
        )
    return TrainingInterrupted(
        f"training was stopped at step {step} of {steps}",
        why=f"its state is saved in {folder}",
        remedy="run the same command again to go on from there",
    )
