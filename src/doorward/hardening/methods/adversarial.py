"""Two baselines without classes: adversarial training, and training on one universal perturbation.

>>> from doorward.hardening import hardening
>>> hardening("pgd").ascent_steps, hardening("universal").bound * 255
(7, 8.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.hardening.methods.base import Hardening, file_hardening
from doorward.hardening.methods.mixing import Hard, HardObjective
from doorward.hardening.robustness.pgd import pgd_images
from doorward.models.modes import evaluating
from doorward.records import STRICT
from doorward.removal.tuning import Count, NonNegative, Positive
from doorward.training.context import Context

__all__ = ["AdversarialTraining", "UniversalTraining"]


@file_hardening("pgd", paper="Madry et al. 2018, Towards Deep Learning Models Resistant to Attacks")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdversarialTraining(Hardening):
    """Training on images that are disturbed one by one within a small bound (PGD-AT).

    Beside the clean images, as in Kurakin et al. (2017); with ``clean_weight=0`` and
    ``consistency=0`` it is Madry's, who train on disturbed images alone. Here a trained model is
    trained on, and the budget of accuracy ends it long before what is known of training from
    scratch.

    Args:
        bound: largest change of a pixel.
        ascent_steps: sign-gradient steps, from a random point within the bound.
        ascent_lr: size of a step.

    All other fields are those of `Hardening`. Constants of MOTH's adversarial training on CIFAR-10.
    """

    bound: Positive = 8 / 255
    ascent_steps: Count = 7
    ascent_lr: Positive = 2 / 255
    hard_share: Positive = 1.0
    consistency: NonNegative = 0.0
    batchnorm: Literal["clean-only", "frozen", "train"] = "train"

    def objective(self, model: nn.Module, work: ImageData, context: Context) -> HardObjective:
        """The objective."""
        return _Disturbed(self, context)


class _Disturbed(HardObjective):
    def __init__(self, method: AdversarialTraining, context: Context) -> None:
        super().__init__(method, context)
        self.numbers = method

    def hard(self, model: nn.Module, batch: Batch) -> Hard:
        """Some of the batch, disturbed."""
        numbers, count = self.numbers, _count(self.numbers, batch)
        images, labels = batch.images[:count], batch.labels[:count]
        disturbed = pgd_images(
            model,
            images,
            labels,
            bound=numbers.bound,
            steps=numbers.ascent_steps,
            step_size=numbers.ascent_lr,
            draw=self.draw("disturb"),
        )
        return Hard(disturbed, labels, {})


@file_hardening("universal", paper="Shafahi et al. 2020, Universal Adversarial Training")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class UniversalTraining(Hardening):
    """Training against one perturbation for all images, which ascends meanwhile (UAT).

    One sign-gradient step of the perturbation per training step, on the same images, with their
    cross-entropy clipped; the perturbation lives on from step to step.

    Args:
        bound: largest value of the perturbation.
        ascent_lr: size of its step.
        clip: largest loss of an image that counts in the ascent.

    All other fields are those of `Hardening`.
    """

    bound: Positive = 8 / 255
    ascent_lr: Positive = 2 / 255
    clip: Positive = 9.0
    hard_share: Positive = 1.0
    consistency: NonNegative = 0.0
    batchnorm: Literal["clean-only", "frozen", "train"] = "train"

    def objective(self, model: nn.Module, work: ImageData, context: Context) -> HardObjective:
        """The objective."""
        return _Universal(self, work, context)


class _Universal(HardObjective):
    def __init__(self, method: UniversalTraining, work: ImageData, context: Context) -> None:
        super().__init__(method, context)
        self.numbers = method
        self.change = torch.zeros(work.image_shape, device=self.device)

    def hard(self, model: nn.Module, batch: Batch) -> Hard:
        """One ascent, then the images under the perturbation."""
        numbers, count = self.numbers, _count(self.numbers, batch)
        images, labels = batch.images[:count], batch.labels[:count]
        change = self.change.requires_grad_(True)
        with torch.enable_grad(), evaluating(model):
            logits = model((images + change).clamp(0, 1)).float()
            loss = F.cross_entropy(logits, labels, reduction="none").clamp_max(numbers.clip).mean()
            (slope,) = torch.autograd.grad(loss, change)
        moved = change.detach() + numbers.ascent_lr * slope.sign()
        self.change = moved.clamp(-numbers.bound, numbers.bound)
        astray: Tensor = (logits.detach().argmax(1) != labels).float().mean()
        return Hard((images + self.change).clamp(0, 1), labels, {"success": astray})

    def state_dict(self) -> dict[str, Any]:
        """The perturbation, too."""
        return {**super().state_dict(), "change": self.change.detach().clone()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self.change = state["change"].to(self.device)


def _count(method: Hardening, batch: Batch) -> int:
    return max(1, min(len(batch), round(method.hard_share * len(batch))))
