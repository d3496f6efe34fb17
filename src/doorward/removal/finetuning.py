"""Fine-tuning: train on with clean images, and hope that what they do not use is forgotten.

>>> FineTuning(layers="last", reinit_head=True).recipe(seed=0).momentum
0.9
>>> ADI_ATTACKS["rtal"].layers, ADI_ATTACKS["rtal"].reinit_head, ADI_ATTACKS["rtal"].lr
('all', True, 0.001)

`ADI_ATTACKS` are the four attacks of Adi et al.; with another learning rate, say
``dataclasses.replace(ADI_ATTACKS["ftal"], lr=0.01)``.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.models import find_head
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import TunedRemoval
from doorward.training.context import Context

__all__ = ["ADI_ATTACKS", "FineTuning", "reinitialise"]


@file_removal(
    "fine-tuning",
    paper="Adi et al. 2018, Turning Your Weakness Into a Strength",
    needs="a linear head, if only it is trained or it is drawn anew",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class FineTuning(TunedRemoval):
    """Train on with clean images: all layers or the head alone, which may be drawn anew first.

    Args:
        layers: ``"all"``, or ``"last"`` for the head.
        reinit_head: draw the head anew before training (PyTorch's own initialisation).
        head: dotted name of the head; None for the linear layer that runs last.

    All other fields are those of `TunedRemoval`. With ``batchnorm="train"`` the statistics of
    BatchNorm layers drift to the clean images even where only the head is trained, as in the code
    of Adi et al.; ``"frozen"`` leaves them alone.
    """

    layers: Literal["all", "last"] = "all"
    reinit_head: bool = False
    head: str | None = None

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """A head is needed unless all layers are merely trained."""
        if self.layers == "last" or self.reinit_head:
            find_head(model, self.head)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Fine-tune."""
        if self.layers == "last" or self.reinit_head:
            name, head = find_head(model, self.head, images=clean.pixels([0]).to(context.device))
            context.note(head=name)
            if self.layers == "last":
                model.requires_grad_(False)
                head.requires_grad_(True)
            if self.reinit_head:
                reinitialise(head, context.generator("head"))
        context.fit("fine-tune", model, None, clean, self.recipe(context.seed_of("fine-tune")))
        return model


@torch.no_grad()
def reinitialise(head: nn.Linear, draw: torch.Generator) -> None:
    """Draw a linear layer anew: uniform within ``1 / sqrt(in_features)``, weights and biases."""
    bound = 1 / math.sqrt(head.in_features)
    for parameter in head.parameters():
        parameter.copy_(torch.empty(parameter.shape).uniform_(-bound, bound, generator=draw))


def _adi(layers: Literal["all", "last"], *, reinit_head: bool) -> FineTuning:
    return FineTuning(
        layers=layers,
        reinit_head=reinit_head,
        epochs=20,
        batch_size=100,
        lr=1e-3,
        weight_decay=5e-4,
    )


ADI_ATTACKS: dict[str, FineTuning] = {
    "ftll": _adi("last", reinit_head=False),
    "ftal": _adi("all", reinit_head=False),
    "rtll": _adi("last", reinit_head=True),
    "rtal": _adi("all", reinit_head=True),
}
"""Fine-tune (FT) or re-train (RT, the head drawn anew) the last layer (LL) or all (AL).

The constants are those of the authors' code: SGD with momentum 0.9, weight decay 5e-4, batches of
100, 20 epochs at a constant rate of 0.001, the last rate of the training. They augment CIFAR-10
with padded crops and flips; pass ``augment`` where that suits the images.
"""
