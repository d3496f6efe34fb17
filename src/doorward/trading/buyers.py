"""What a buyer can do without the key, beside the removal methods: own masks, and a copy.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> trial = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> guessed, result = OwnMasks(epochs=1.0)(trial, digits)
>>> result.method, guessed(digits.pixels([0])).shape
('OwnMasks', torch.Size([1, 10]))

Both are `doorward.removal.Removal`s, to be compared with the others: a lock is worth
what the cheapest way to a usable model without its trigger costs (study `trading-security`).
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.extraction import LiveDistillation
from doorward.records import STRICT
from doorward.removal import Context
from doorward.removal.tuning import Positive, Projected, TunedRemoval
from doorward.trading.masks import MASKS, TrainedMasks, identity_bank
from doorward.trading.masks.gates import engaged, insert_gates

__all__ = ["Copying", "OwnMasks"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OwnMasks(TunedRemoval):
    """Guess a key: masks of the right kind and places, begun at random, fitted to clean images.

    The buyer is given all that is public about a lock: how masks act, where, and from where the
    seller began. The weights stay as they are; BatchNorm takes statistics of its own. (Adversarial
    neuron pruning searches the same space from ones; see `doorward.removal`.)

    Args:
        masks: a trained kind in `MASKS`.
        sites: dotted names; None for the kind's defaults.
        spread: how far from one they begin.
    """

    masks: str = "channel"
    sites: tuple[str, ...] | None = None
    spread: Annotated[float, Field(ge=0, le=1)] = 1.0
    lr: Positive = 0.05

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Fit the masks by Adam, and put them in."""
        images = clean.pixels([0]).to(context.device)
        masks = TrainedMasks(identity_bank(model, self.masks, images, self.sites))
        masks.scatter(self.spread, context.seed_of("masks"))
        masks.to(context.device)
        recipe = self.recipe(context.seed_of("fit"), optimizer="adam", weight_decay=0.0)
        model.requires_grad_(False)
        context.fit("own masks", _Masked(model, masks), Projected(masks.confine), clean, recipe)
        masks.confine()
        return insert_gates(model, MASKS[self.masks], masks.bank().masks)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Copying(TunedRemoval):
    """Distil: a network of the same kind, drawn anew, imitates the trial on the buyer's images.

    It never sees a triggered image, so nothing of the trigger is passed on; what it costs is the
    accuracy that so few images give (Hinton et al. 2015; temperature 3, no labels).

    Args:
        temperature: of the imitation.
    """

    lr: Positive = 0.1
    temperature: Positive = 3.0

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Draw the weights anew, and imitate."""
        teacher = context.frozen_original()
        with torch.random.fork_rng([]):  # layers draw from the global generator
            torch.manual_seed(context.seed_of("weights"))
            for module in model.modules():
                reset = getattr(module, "reset_parameters", None)
                if reset is not None:
                    reset()
        objective = LiveDistillation(teacher, temperature=self.temperature)
        recipe = self.recipe(context.seed_of("fit"), schedule="onecycle")
        context.fit("copy", model, objective, clean, recipe)
        return model


class _Masked(nn.Module):
    """A model with frozen weights under masks, which are all that it learns."""

    def __init__(self, model: nn.Module, masks: TrainedMasks) -> None:
        super().__init__()
        self.model, self.masks = model, masks

    def forward(self, images: Tensor) -> Tensor:
        """Images to logits."""
        with engaged(self.model, self.masks.kind, self.masks.values()):
            logits: Tensor = self.model(images)
        return logits
