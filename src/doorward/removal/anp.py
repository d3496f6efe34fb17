"""Adversarial neuron pruning: backdoor neurons are those that a small disturbance sets off.

>>> AdversarialNeuronPruning().noise, AdversarialNeuronPruning().alpha
(0.4, 0.2)

Masks on all neurons are trained to withstand the worst disturbance of their weights; neurons whose
mask falls below a threshold are pruned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.masks import NeuronMasks
from doorward.removal.neuronpruning import NeuronPruning
from doorward.removal.tuning import Count, NonNegative, Probability
from doorward.training.context import Context

__all__ = ["AdversarialNeuronPruning"]


@file_removal(
    "anp",
    paper="Wu and Wang 2021, Adversarial Neuron Pruning Purifies Backdoored Deep Models",
    needs="BatchNorm layers, or hidden convolutions or linear layers",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdversarialNeuronPruning(NeuronPruning):
    """Prune the neurons whose masks fall when their weights are disturbed adversarially (ANP).

    Every step disturbs the weights and biases of all neurons (relatively) so as to raise the loss
    on clean images, then updates the masks on
    ``alpha * loss + (1 - alpha) * loss when disturbed``.

    Args:
        noise: eps, size of the random start and of the whole ascent.
        noise_steps: sign-gradient steps of size ``noise / noise_steps`` from the random start.
        alpha: weight of the undisturbed loss.

    All other fields are those of `NeuronPruning`. Constants and details as in the authors' code:
    masks on the scales of BatchNorm, batch statistics during the search, disturbances not clipped
    after the ascent, only scales zeroed at the end. Where published tables choose the threshold by
    *test* accuracy, images are held out for it here.
    """

    noise: NonNegative = 0.4
    noise_steps: Count = 1
    alpha: Probability = 0.2

    def score(self, clean: ImageData, context: Context) -> Mapping[str, Tensor]:
        """The trained masks."""
        masked = NeuronMasks(context.copy_of_original())
        recipe = self.mask_recipe(len(clean), context.seed_of("masks"))
        context.fit("masks", masked, _Withstand(self, context.generator), clean, recipe)
        masked.clamp()
        return masked.scores()


class _Withstand:
    """The masks' objective; one call is one step of the search."""

    def __init__(
        self, method: AdversarialNeuronPruning, draws: Callable[..., torch.Generator]
    ) -> None:
        self.method, self.draws = method, draws

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        masked = cast(NeuronMasks, model)
        masked.clamp()
        calm = F.cross_entropy(model(batch.images).float(), batch.labels)
        noise = self._ascend(masked, batch)
        disturbed = F.cross_entropy(model(batch.images, noise).float(), batch.labels)
        alpha = self.method.alpha
        scalars = {"calm": calm.detach(), "disturbed": disturbed.detach()}
        return alpha * calm + (1 - alpha) * disturbed, scalars

    def _ascend(self, model: NeuronMasks, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
        method, draw = self.method, self.draws("noise", batch.step)

        def start(mask: Tensor) -> Tensor:
            uniform = torch.rand(mask.shape, generator=draw).to(mask)
            return (method.noise * (2 * uniform - 1)).requires_grad_(True)

        noise = {
            name: (start(mask), start(mask))
            for name, mask in zip(model.names, model.masks, strict=True)
        }
        for _ in range(method.noise_steps):
            loss = F.cross_entropy(model(batch.images, noise).float(), batch.labels)
            flat = [part for pair in noise.values() for part in pair]
            slopes = torch.autograd.grad(loss, flat, allow_unused=True)  # no bias, no slope
            step = method.noise / method.noise_steps
            moved = [
                part.detach() if slope is None else part.detach() + step * slope.sign()
                for part, slope in zip(flat, slopes, strict=True)
            ]
            pairs = iter([part.requires_grad_(True) for part in moved])
            noise = {name: (next(pairs), next(pairs)) for name in noise}
        return {name: (weight.detach(), bias.detach()) for name, (weight, bias) in noise.items()}
