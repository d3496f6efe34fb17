"""What every hardening method is: numbers, and an objective of hard images beside clean ones.

A method of your own is its numbers and `objective`; the loop, the budget of accuracy and the
roll-back are the same for all::

    @file_hardening("noise", paper="...")
    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Noise(Hardening):
        "Train on noisy images."
        amount: float = 0.1
        def objective(self, model, work, context):
            return NoisyImages(self, context)            # a HardObjective

    hardened, result = harden(model, data, "noise", budget_accuracy=1.0)

Every method is a `Removal`, too: it may be handed to `doorward.removal.remove`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import field
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import Augment, ImageData
from doorward.records import STRICT
from doorward.registry import Registry
from doorward.removal import Removal
from doorward.removal.tuning import Count, NonNegative, Positive, Share
from doorward.training import Recipe
from doorward.training.context import Context

if TYPE_CHECKING:
    from doorward.hardening.methods.mixing import HardObjective

__all__ = ["HARDENINGS", "Hardening", "file_hardening", "hardening"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hardening(Removal, ABC):
    """A way to make a model hard to lead astray. Subclasses write `objective`.

    Args:
        steps: of the optimiser, those rolled back included.
        batch_size: clean images per step.
        hard_share: changed images per step, as a share of them; balanced over their classes.
        clean_weight: of the clean images' cross-entropy.
        hard_weight: of the changed images' cross-entropy, under their true labels.
        consistency: weight of the divergence of the answers to clean images from those of the
            model that was given.
        lr: of SGD.
        momentum: of SGD.
        weight_decay: L2 coefficient.
        clip_norm: largest L2 norm of the whole gradient; None for no clipping. The first hard
            images have large losses.
        schedule: ``"constant"``, or ``"linear"``: the rate falls from check to check.
        batchnorm: ``"clean-only"`` (statistics follow the clean images of each batch),
            ``"frozen"`` (they stay those of the given model) or ``"train"`` (all images).
        augment: random changes of the clean images.
        budget_accuracy: percentage points that accuracy on held-out images may fall in all.
        held_out: share of the images that only serves to hold the budget by, unless other images
            are given for that.
        checks: how often accuracy is looked at. Where it is below the budget, the model goes back
            to the last check and on at half the rate.
        patience: roll-backs after which it ends.
    """

    steps: Count = 400
    batch_size: Count = 128
    hard_share: Positive = 0.5
    clean_weight: NonNegative = 1.0
    hard_weight: Positive = 1.0
    consistency: NonNegative = 1.0
    lr: Positive = 0.01
    momentum: Share = 0.9
    weight_decay: NonNegative = 0.0
    clip_norm: Positive | None = 1.0
    schedule: Literal["constant", "linear"] = "linear"
    batchnorm: Literal["clean-only", "frozen", "train"] = "clean-only"
    augment: Augment = field(default_factory=Augment)
    budget_accuracy: Annotated[float, Field(ge=0, le=100)] = 1.0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    checks: Annotated[int, Field(ge=1)] = 10
    patience: Annotated[int, Field(ge=0)] = 3

    @abstractmethod
    def objective(self, model: nn.Module, work: ImageData, context: Context) -> HardObjective:
        """What is minimised.

        Args:
            model: that is hardened, on ``context.device``; not to be kept.
            work: images that are trained on.
            context: seeds, device, and the given model.
        """

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Hold out images, train in parts, keep to the budget."""
        from doorward.hardening.methods.guarding import guarded

        work, held = context.hold_out(clean, self.held_out)
        outcome = guarded(self, model, work, held, context)
        content = outcome.to_dict()
        for check in content["checks"]:  # a result says once how long everything took
            del check["seconds"]
        context.note(**content)
        return model

    def recipe(self, seed: int, steps: int, images: int, rate: float) -> Recipe:
        """The recipe of one part of the training, at a share `rate` of the learning rate."""
        return Recipe(
            epochs=math.ceil(steps / max(1, math.ceil(images / self.batch_size))),
            max_steps=steps,
            batch_size=self.batch_size,
            lr=self.lr * rate,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            clip_norm=self.clip_norm,
            schedule="constant",
            batchnorm=self.batchnorm,
            augment=self.augment,
            seed=seed,
        )


HARDENINGS: Registry[type[Hardening]] = Registry("hardening method")
"""All methods by name; fact ``paper``."""

C = TypeVar("C")


def file_hardening(name: str, *, paper: str) -> Callable[[C], C]:
    """Class decorator: register a method and tell it its name.

    Args:
        name: for `HARDENINGS` and results.
        paper: authors, year, title.
    """

    def file(cls: C) -> C:
        cast(type[Hardening], cls).name = name
        return HARDENINGS.register(name, paper=paper)(cls)

    return file


def hardening(name: str, **parameters: Any) -> Hardening:
    """A method by name, with these parameters and its defaults for all others.

    Raises:
        UnknownName: there is no such method; the message lists those that exist.
        InvalidInput: a parameter is unknown or out of range; the message names it.
    """
    return HARDENINGS[name].from_dict(parameters)
