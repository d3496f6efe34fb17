"""Shared adversarial unlearning: unlearn what fools the model the way it fooled the given one.

>>> SharedUnlearning().bound, SharedUnlearning().ascent_steps
(0.2, 5)
"""

from __future__ import annotations

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.models import evaluating
from doorward.records import STRICT
from doorward.removal.base import Removal, file_removal
from doorward.removal.tuning import Count, NonNegative, Positive
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["SharedUnlearning"]


@file_removal(
    "sau",
    paper="Wei et al. 2023, Shared Adversarial Unlearning",
    needs="nothing beyond trainable weights",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharedUnlearning(Removal):
    """Unlearn adversarial examples that the model shares with the one that was given (SAU).

    Each step disturbs the images so that the current and the given model err, and err alike; then
    trains on cross-entropy of the clean images plus the risk of giving disturbed images the given
    model's wrong answer.

    Args:
        epochs: passes over the clean images.
        batch_size: images per step.
        lr: of Adam.
        bound: largest change of a pixel.
        ascent_steps: sign-gradient steps, from the upper end of the bound.
        ascent_lr: size of a step.
        adversarial: weight of the plain adversarial loss in the ascent; that of agreement
            (Jensen-Shannon divergence of the two models' answers) is 1.
        task: weight of the clean images' loss.
        robust: weight of the disturbed images' loss under true labels.
        shared: weight of the shared risk.
        batchnorm_train: let BatchNorm follow the mixed batches.

    Constants of the authors' code in BackdoorBench; the weights 1, 0, 1 of the three losses are its
    stated defaults (a configuration there also sets the second to 1). An image counts no more for
    the ascent once both models err alike on it.
    """

    epochs: Positive = 100.0
    batch_size: Count = 256
    lr: Positive = 1e-4
    bound: Positive = 0.2
    ascent_steps: Count = 5
    ascent_lr: Positive = 0.2
    adversarial: NonNegative = 0.01
    task: NonNegative = 1.0
    robust: NonNegative = 0.0
    shared: NonNegative = 1.0
    batchnorm_train: bool = False

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Alternate ascent and unlearning within each step."""
        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adam",
            lr=self.lr,
            schedule="constant",
            batchnorm="train" if self.batchnorm_train else "frozen",
            seed=context.seed_of("unlearn"),
        )
        objective = _Shared(self, context.frozen_original())
        context.fit("unlearn", model, objective, clean, recipe)
        return model


class _Shared:
    def __init__(self, method: SharedUnlearning, given: nn.Module) -> None:
        self.method, self.given = method, given

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        method, labels = self.method, batch.labels
        disturbed = batch.images + self._ascend(model, batch)
        with torch.no_grad():
            before, wrong = (self.given(part).argmax(1) for part in (batch.images, disturbed))
        logits = model(torch.cat([batch.images, disturbed])).float()
        calm, shaken = logits[: len(batch)], logits[len(batch) :]
        fooled = (wrong != labels) & (wrong != before)
        # The chance of the given model's wrong answer, away from both ends of the logarithm.
        chance = shaken.softmax(1).gather(1, wrong[:, None]).squeeze(1).clamp(1e-3, 1 - 1e-3)
        risk = (-(1 - chance).log() * fooled).mean()
        loss = method.task * F.cross_entropy(calm, labels) + method.shared * risk
        if method.robust:
            loss = loss + method.robust * F.cross_entropy(shaken, labels)
        accuracy = (calm.detach().argmax(1) == labels).float().mean()
        return loss, {"accuracy": accuracy, "risk": risk.detach(), "fooled": fooled.float().mean()}

    def _ascend(self, model: nn.Module, batch: Batch) -> Tensor:
        method = self.method
        change = torch.full_like(batch.images, method.bound)
        with evaluating(model):
            with torch.no_grad():
                calm = [net(batch.images).argmax(1) for net in (model, self.given)]
            for _ in range(method.ascent_steps):
                change.requires_grad_(True)
                disturbed = batch.images + change
                answers = [net(disturbed).float() for net in (model, self.given)]
                loss = _disagreement(answers, calm, batch.labels, method.adversarial)
                (slope,) = torch.autograd.grad(loss, change)
                change = change.detach() - method.ascent_lr * slope.sign()
                change = change.clamp(-method.bound, method.bound)
        return change.detach()


def _disagreement(
    answers: list[Tensor], calm: list[Tensor], labels: Tensor, adversarial: float
) -> Tensor:
    """What the ascent brings down: correctness of both models, and difference between them."""
    moved = [a.argmax(1) != before for a, before in zip(answers, calm, strict=True)]
    shared = moved[0] & moved[1] & (answers[0].argmax(1) == answers[1].argmax(1))
    correct = torch.stack(
        [
            F.cross_entropy(answer, labels, reduction="none") * ~gone
            for answer, gone in zip(answers, moved, strict=True)
        ]
    ).sum(0)
    one, other = (answer.softmax(1).clamp_min(1e-8) for answer in answers)
    middle = ((one + other) / 2).log()
    divergence = (one * (one.log() - middle) + other * (other.log() - middle)).sum(1) / 2
    return (-adversarial * correct / 2 + divergence * ~shared).mean()
