"""What methods share that score every neuron and prune those that score low.

A method of this kind writes `score`; how many neurons go is decided here, by a threshold or by a
budget of clean accuracy:

>>> from doorward.removal import removal
>>> removal("anp", threshold=0.2).threshold, removal("anp").budget
(0.2, 0.05)
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Augment, ImageData
from doorward.models.layers import maskable
from doorward.records import STRICT
from doorward.removal.base import Removal
from doorward.removal.choosing import strongest
from doorward.removal.masks import prune_neurons
from doorward.removal.tuning import Count, Positive, Probability, Share
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["NeuronPruning"]

STEP = 0.05  # between the thresholds that are tried


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NeuronPruning(Removal):
    """Base of the methods that train masks on neurons and prune those with a low mask.

    Args:
        lr: of the masks (SGD).
        momentum: of SGD.
        iterations: steps of the masks.
        batch_size: images per step.
        augment: random changes of the images.
        threshold: neurons with a mask up to it are pruned. None to raise it from 0 in steps of
            0.05 up to `threshold_max` for as long as the accuracy on held-out clean images falls
            by no more than `budget`.
        threshold_max: the largest threshold that is tried.
        budget: that fall, in [0, 1].
        held_out: share of the clean images that is held out to measure it (without `threshold`).

    The neurons are the channels of BatchNorm layers; in a model without any, those of its hidden
    convolutions and linear layers (ours: the papers' networks all have BatchNorm).
    """

    lr: Positive = 0.2
    momentum: Share = 0.9
    iterations: Count = 2000
    batch_size: Count = 128
    augment: Augment = field(default_factory=Augment)
    threshold: Probability | None = None
    threshold_max: Probability = 0.9
    budget: Probability = 0.05
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2

    @abstractmethod
    def score(self, clean: ImageData, context: Context) -> Mapping[str, Tensor]:
        """Scores in [0, 1] of the neurons of ``context.copy_of_original()``, by layer."""

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be neurons to mask."""
        maskable(model)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Score on a copy, prune the model."""
        if self.threshold is not None:
            scores = self.score(clean, context)
            threshold: float | None = self.threshold
            prune_neurons(model, scores, self.threshold)
        else:
            work, held = context.hold_out(clean, self.held_out)
            scores = self.score(work, context)
            thresholds = [i * STEP for i in range(round(self.threshold_max / STEP) + 1)]
            choice = strongest(
                model,
                held,
                thresholds,
                lambda threshold: prune_neurons(model, scores, threshold),
                budget=self.budget,
            )
            threshold = choice.strength
            context.note(**choice.to_dict())
        low = {
            name: (s <= threshold) if threshold is not None else s < 0 for name, s in scores.items()
        }
        context.note(
            threshold=threshold,
            neurons=sum(len(score) for score in scores.values()),
            pruned=sum(int(dead.sum()) for dead in low.values()),
            pruned_neurons={n: d.nonzero().flatten().tolist() for n, d in low.items() if d.any()},
        )
        return model

    def mask_recipe(self, images: int, seed: int) -> Recipe:
        """Plain SGD on the masks for `iterations` steps over so many images."""
        return Recipe(
            epochs=self.iterations / math.ceil(images / self.batch_size),
            max_steps=self.iterations,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            nesterov=False,
            schedule="constant",
            augment=self.augment,
            seed=seed,
        )
