"""What all methods that train on clean images share: their recipe, and weights held in place.

>>> from doorward.removal import removal
>>> removal("fine-tuning", lr=0.05, schedule="refit").recipe(seed=0).schedule
'step'
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Augment, Batch
from doorward.records import STRICT
from doorward.removal.base import Removal
from doorward.training import CrossEntropy, Objective, Recipe

__all__ = [
    "Count",
    "NonNegative",
    "Positive",
    "Probability",
    "Projected",
    "Share",
    "TunedRemoval",
    "holding",
]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]

REFIT_DROPS, REFIT_GAMMA = 20, 0.9


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TunedRemoval(Removal):
    """Base of the methods that train on the clean images.

    Args:
        epochs: passes over the clean images.
        batch_size: images per step.
        lr: largest learning rate.
        momentum: of SGD.
        nesterov: use Nesterov's form of it.
        weight_decay: L2 coefficient.
        schedule: ``"constant"``; ``"onecycle"``; ``"cosine"``; ``"refit"``, for large rates: it
            starts at `lr` at once and is multiplied by 0.9 twenty times, evenly over the run, to
            end at an eighth. After REFIT (Chen et al. 2021), whose point is the large first rate
            with a slow decay; the number of drops is ours, so that runs of any length end alike.
        batchnorm: ``"train"`` (statistics follow the clean images) or ``"frozen"``.
        augment: random changes of the images.
    """

    epochs: NonNegative = 20.0
    batch_size: Count = 128
    lr: Positive = 0.01
    momentum: Share = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 5e-4
    schedule: Literal["constant", "onecycle", "cosine", "refit"] = "constant"
    batchnorm: Literal["train", "frozen"] = "train"
    augment: Augment = field(default_factory=Augment)

    def recipe(self, seed: int, **changes: Any) -> Recipe:
        """The training recipe these fields describe, with `changes` of its fields."""
        fields: dict[str, Any] = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.weight_decay,
            "schedule": self.schedule,
            "batchnorm": self.batchnorm,
            "augment": self.augment,
            "seed": seed,
        }
        if self.schedule == "refit":
            drops = [drop / (REFIT_DROPS + 1) for drop in range(1, REFIT_DROPS + 1)]
            fields |= {"schedule": "step", "milestones": tuple(drops), "gamma": REFIT_GAMMA}
        return Recipe(**(fields | changes))


class Projected:
    """An objective under a constraint: weights are put back in place before each step.

    With one more call of `project` after the training this is projected gradient descent.

    Args:
        project: changes the model in place, without gradient.
        objective: what is minimised.
    """

    def __init__(self, project: Callable[[], None], objective: Objective | None = None) -> None:
        self.project, self.objective = project, objective or CrossEntropy()

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Any]:
        """Project, then the objective's loss and scalars."""
        with torch.no_grad():
            self.project()
        return self.objective(model, batch)


def holding(kept: list[tuple[nn.Parameter, Tensor]]) -> Callable[[], None]:
    """A projection that sets the weights where a mask is zero to zero.

    Args:
        kept: parameters with masks of their shape and device, 1 where a weight lives.
    """

    @torch.no_grad()
    def project() -> None:
        for parameter, mask in kept:
            parameter.mul_(mask)

    return project
