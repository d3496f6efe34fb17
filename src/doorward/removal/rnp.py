"""Reconstructive neuron pruning: forget the clean task, and see which neurons cannot bring it back.

>>> ReconstructivePruning().unlearn_lr, ReconstructivePruning().stop_at
(0.01, 0.2)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.masks import NeuronMasks
from doorward.removal.neuronpruning import NeuronPruning
from doorward.removal.tuning import Count, NonNegative, Positive, Probability
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["ReconstructivePruning"]


@file_removal(
    "rnp",
    paper="Li et al. 2023, Reconstructive Neuron Pruning for Backdoor Defense",
    needs="BatchNorm layers, or hidden convolutions or linear layers",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReconstructivePruning(NeuronPruning):
    """Unlearn clean images, recover them by masks alone, prune the neurons with low masks (RNP).

    A copy climbs the loss on the clean images until it has forgotten them; what is left of it is
    the backdoor. Masks on its neurons are then trained to bring clean accuracy back; they turn down
    the neurons that carry the backdoor, and these are pruned in the given model.

    Args:
        unlearn_lr: learning rate of unlearning (SGD, momentum 0.9).
        unlearn_epochs: at most.
        unlearn_weight_decay: meanwhile.
        stop_at: accuracy on the clean images at which unlearning stops; it is looked at after
            each epoch.
        alpha: factor of the masks' loss.

    All other fields are those of `NeuronPruning`. Constants of the authors' code for 1 % clean data
    (500 images, whose 20 epochs of masks are 80 iterations). The gradient's norm is limited to 20
    while unlearning, as that code means to; momentum starts anew with each epoch of it (ours). On
    narrow networks so many steps at this rate mask neurons that clean images need, and the budget
    then keeps all: take fewer iterations or a smaller rate.
    """

    iterations: Count = 80
    unlearn_lr: Positive = 0.01
    unlearn_epochs: Count = 20
    unlearn_weight_decay: NonNegative = 5e-4
    stop_at: Probability = 0.2
    alpha: Positive = 0.2

    def score(self, clean: ImageData, context: Context) -> Mapping[str, Tensor]:
        """Masks that recover an unlearned copy."""
        copy = context.copy_of_original()
        accuracy = 1.0
        for epoch in range(self.unlearn_epochs):
            recipe = self._unlearning(context.seed_of("unlearn", epoch))
            result = context.fit("unlearn", copy, _climb, clean, recipe)
            accuracy = float(result.final["accuracy"])
            if accuracy <= self.stop_at:
                break
        context.note(unlearned_epochs=epoch + 1, unlearned_accuracy=accuracy)
        masked = NeuronMasks(copy)
        recipe = self.mask_recipe(len(clean), context.seed_of("masks"))
        context.fit("masks", masked, self._recover, clean, recipe)
        masked.clamp()
        return masked.scores()

    def _unlearning(self, seed: int) -> Recipe:
        return Recipe(
            epochs=1,
            batch_size=self.batch_size,
            lr=self.unlearn_lr,
            nesterov=False,
            weight_decay=self.unlearn_weight_decay,
            schedule="constant",
            clip_norm=20.0,
            augment=self.augment,
            seed=seed,
        )

    def _recover(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        cast(NeuronMasks, model).clamp()
        logits = model(batch.images).float()
        loss = self.alpha * F.cross_entropy(logits, batch.labels)
        return loss, {"accuracy": _hits(logits, batch)}


def _climb(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    logits = model(batch.images).float()
    return -F.cross_entropy(logits, batch.labels), {"accuracy": _hits(logits, batch)}


def _hits(logits: Tensor, batch: Batch) -> Tensor:
    return (logits.detach().argmax(1) == batch.labels).float().mean()
