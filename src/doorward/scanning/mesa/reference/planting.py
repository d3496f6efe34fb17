"""How MESA's experiments plant a backdoor: by tuning a trained, clean model a little more.

    victim = load_model("clean")
    inject(victim, train, Backdoor(pattern_trigger(170), AllToOne(0)), seed=1)

Every image is poisoned anew with a small probability each time it is shown.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageSource
from doorward.errors import InvalidInput
from doorward.randomness import derive_seed, generator
from doorward.training import FitResult, Recipe, fit
from doorward.triggers import Backdoor

__all__ = ["INJECTION", "inject"]

INJECTION = Recipe(
    epochs=10, batch_size=128, lr=1e-3, momentum=0.9, nesterov=False, schedule="constant"
)
"""The authors' recipe: no weight decay, no augmentation."""


def inject(
    model: nn.Module,
    source: ImageSource,
    backdoor: Backdoor,
    recipe: Recipe = INJECTION,
    *,
    probability: float = 0.01,
    seed: int = 0,
    **options: Any,
) -> FitResult:
    """Plant a backdoor in a trained model, in place.

    Args:
        model: maps images (N, C, H, W) in [0, 1] to logits (N, K).
        source: training images.
        backdoor: trigger and label rule; images that the rule may not touch stay as they are.
        recipe: its seed is replaced by one that derives from `seed`.
        probability: of each image to be poisoned, whenever it is shown, in (0, 1].
        seed: of which images, and of their order.
        options: of `doorward.training.fit` (device, progress, ...).

    Raises:
        InvalidInput: the probability, the rule or the trigger does not fit.
        ModelUnsuitable: the model does not take the images.

    Qiao et al. (2019), reference code: ten epochs at a rate of 1e-3, each image poisoned with
    probability 1 %. There one place is drawn for a whole batch, and images of the target class are
    stamped, too; here the trigger and the label rule decide.
    """
    if not 0 < probability <= 1:
        raise InvalidInput(f"the probability is {probability}", why="above 0, and at most 1")
    backdoor.rule.check(source.num_classes)
    recipe = dataclasses.replace(recipe, seed=derive_seed(seed, "inject"))
    objective = _Poisoning(backdoor, probability, derive_seed(seed, "poisoned rows"))
    return fit(model, objective, source, recipe, **options)


class _Poisoning:
    """Cross-entropy of batches of which some images carry the trigger and its label."""

    def __init__(self, backdoor: Backdoor, probability: float, seed: int) -> None:
        self.backdoor, self.probability, self.seed = backdoor, probability, seed

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = self.poisoned(batch)
        logits = model(images).float()
        accuracy = (logits.detach().argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def poisoned(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch."""
        draw = generator(self.seed, batch.step)
        chosen = torch.rand(len(batch), generator=draw) < self.probability
        rule, device = self.backdoor.rule, batch.images.device
        rows = (chosen & rule.poisonable(batch.labels).cpu()).nonzero().flatten().to(device)
        images, labels = batch.images.clone(), batch.labels.clone()
        if len(rows):
            with torch.no_grad():
                images[rows] = self.backdoor.trigger.to(device)(images[rows]).to(images.dtype)
            labels[rows] = rule.training_labels(labels[rows])
        return images, labels
