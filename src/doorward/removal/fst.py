"""Feature shift tuning: a new head that may not be like the old one drags the features along.

>>> FeatureShift().alpha, FeatureShift().epochs
(0.2, 10.0)
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.models import find_head
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.finetuning import reinitialise
from doorward.removal.tuning import NonNegative, Positive, Projected, TunedRemoval
from doorward.training.context import Context

__all__ = ["FeatureShift"]


@file_removal(
    "fst",
    paper="Min et al. 2023, Towards Stable Backdoor Purification through Feature Shift Tuning",
    needs="a linear head",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class FeatureShift(TunedRemoval):
    """Draw the head anew and fine-tune it away from the old one, all layers following (FST).

    The loss is cross-entropy plus `alpha` times the inner product of the head's weight with the
    given model's; after each step the weight is scaled back to the given one's norm.

    Args:
        alpha: weight of the inner product; the paper takes 0.2 on CIFAR-10 and 0.1 elsewhere.
        head: dotted name of the head; None for the linear layer that runs last.

    All other fields are those of `TunedRemoval`. Constants of the authors' code for 2 % clean data;
    weight decay is not among what we could read there, and off.
    """

    epochs: NonNegative = 10.0
    lr: Positive = 0.01
    weight_decay: NonNegative = 0.0
    schedule: Literal["constant", "onecycle", "cosine", "refit"] = "cosine"
    alpha: NonNegative = 0.2
    head: str | None = None

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be a head."""
        find_head(model, self.head)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Draw the head anew, then fine-tune."""
        name, head = find_head(model, self.head, images=clean.pixels([0]).to(context.device))
        old = head.weight.detach().clone()
        reinitialise(head, context.generator("head"))

        @torch.no_grad()
        def rescale() -> None:
            head.weight.mul_(old.norm() / head.weight.norm().clamp_min(1e-12))

        objective = Projected(rescale, _Apart(head, old, self.alpha))
        recipe = self.recipe(context.seed_of("fine-tune"))
        context.fit("fine-tune", model, objective, clean, recipe)
        rescale()
        likeness = F.cosine_similarity(head.weight.detach().flatten(), old.flatten(), dim=0)
        context.note(head=name, likeness=float(likeness))
        return model


class _Apart:
    def __init__(self, head: nn.Linear, old: Tensor, alpha: float) -> None:
        self.head, self.old, self.alpha = head, old, alpha

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        logits = model(batch.images).float()
        task = F.cross_entropy(logits, batch.labels)
        product = (self.head.weight * self.old).sum()
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        scalars = {"accuracy": accuracy, "task": task.detach(), "product": product.detach()}
        return task + self.alpha * product, scalars
