"""BTI-DBF: separate the features that clean images need, and invert the backdoor in the rest.

>>> DecoupledUnlearning().rounds, DecoupledUnlearning().stamped_share
(5, 0.1)
"""

from __future__ import annotations

import copy
from typing import cast

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.metrics import predict
from doorward.models import find_head
from doorward.models.layers import Behind, head_view
from doorward.models.translation import Translator
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.removal.base import Removal, file_removal
from doorward.removal.tuning import Count, Positive, Probability
from doorward.training import Objective, Recipe
from doorward.training.context import Context

__all__ = ["DecoupledUnlearning"]


@file_removal(
    "bti-dbf",
    paper="Xu et al. 2024, Towards Reliable and Efficient Backdoor Trigger Inversion",
    needs="a linear head",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class DecoupledUnlearning(Removal):
    """Invert an image-dependent trigger through the features clean images do without (BTI-DBF(U)).

    Every round learns a mask on the head's inputs that keeps clean images right, and whose
    complement does not; trains a U-Net that leaves the masked features of an image as they are and
    moves the others; and trains the model to answer truly to what that U-Net makes.

    Args:
        rounds: of all three steps. They end early when the class that the U-Net's images are given
            most often is no longer that of the first round.
        mask_epochs: of the mask (Adam, `mask_lr`).
        mask_lr: its rate.
        translate_epochs: of the U-Net (Adam, `translate_lr`).
        translate_lr: its rate.
        width: its channels at full resolution.
        image_bound: largest mean squared change of the images (the authors' 0.3 is in units of
            CIFAR-10's variance, 0.04 in pixel space) ...
        feature_bound: ... and of the masked features; past one of them the U-Net is only brought
            nearer to the identity.
        unlearn_epochs: of the model (Adam, `unlearn_lr`).
        unlearn_lr: its rate.
        stamped_share: of each batch that is passed through the U-Net, labels kept.
        batch_size: images per step, everywhere.
        head: dotted name of the head; None for the linear layer that runs last.

    Constants of the authors' code. Ours: the U-Net is nearly the identity to begin with, so that
    its 50 epochs of pre-training fall away; masks lie on the features that the head sees; the model
    is in evaluation mode while the mask is learnt; optimisers start anew in every round. The mask
    must stay soft: once its complement is near zero, nothing pulls at the other features any more
    (seen in first trials on digits with ten times this rate).
    """

    rounds: Count = 5
    mask_epochs: Count = 20
    mask_lr: Positive = 0.01
    translate_epochs: Count = 30
    translate_lr: Positive = 1e-3
    width: Count = 32
    image_bound: Positive = 0.012
    feature_bound: Positive = 3.0
    unlearn_epochs: Count = 30
    unlearn_lr: Positive = 1e-4
    stamped_share: Probability = 0.1
    batch_size: Count = 128
    head: str | None = None

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be a head."""
        find_head(model, self.head)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Decouple, invert, unlearn."""
        name, head = find_head(model, self.head, images=clean.pixels([0]).to(context.device))
        draw = context.generator("translator")
        translator = Translator(clean.image_shape[0], width=self.width, draw=draw)
        translator.to(context.device)
        targets: list[int] = []
        for number in range(self.rounds):
            frozen = copy.deepcopy(model)
            mask = _FeatureMask(frozen, head.in_features, context.generator("mask", number))
            self._fit(context, "mask", number, mask, _Decouple(name), clean)
            pair = _Translated(translator, frozen)
            target = targets[0] if targets else None
            move = _Move(self, mask.values().detach(), name, target)
            self._fit(context, "translate", number, pair, move, clean)
            targets.append(int(predict(pair, clean).argmax(1).bincount().argmax()))
            if targets[-1] != targets[0]:
                break
            rows = context.seed_of("rows", number)
            objective = _Unlearn(self, translator.requires_grad_(False), name, rows)
            self._fit(context, "unlearn", number, model, objective, clean)
            translator.requires_grad_(True)
        context.note(targets=targets, head=name)
        return model

    def _fit(
        self,
        context: Context,
        phase: str,
        number: int,
        model: nn.Module,
        objective: Objective,
        clean: ImageData,
    ) -> None:
        epochs, lr = {
            "mask": (self.mask_epochs, self.mask_lr),
            "translate": (self.translate_epochs, self.translate_lr),
            "unlearn": (self.unlearn_epochs, self.unlearn_lr),
        }[phase]
        recipe = Recipe(
            epochs=epochs,
            batch_size=self.batch_size,
            optimizer="adam",
            lr=lr,
            schedule="constant",
            divergence=1e9,  # losses that may fall without end begin anywhere
            seed=context.seed_of(phase, number),
        )
        context.fit(phase, model, objective, clean, recipe)


class _FeatureMask(Behind):
    """A trainable mask in (0, 1) on what the head sees."""

    def __init__(self, model: nn.Module, width: int, draw: torch.Generator) -> None:
        super().__init__(model)
        device = next(model.parameters()).device
        self.raw = nn.Parameter(torch.randn(width, generator=draw).to(device))

    def values(self) -> Tensor:
        return torch.tanh(self.raw) / 2 + 0.5


class _Translated(Behind):
    """The model on translated images."""

    def __init__(self, translator: Translator, model: nn.Module) -> None:
        super().__init__(model)
        self.translator = translator

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(self.translator(images))


class _Decouple:
    """Right by the masked features, wrong by the others."""

    def __init__(self, head: str) -> None:
        self.head = head

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        masked = cast(_FeatureMask, model)
        head = masked.model.get_submodule(self.head)
        with torch.no_grad():
            seen, _ = head_view(masked.model, self.head, batch.images)
        mask = masked.values()
        needed = F.cross_entropy(head(mask * seen).float(), batch.labels)
        spare = F.cross_entropy(head((1 - mask) * seen).float(), batch.labels)
        return needed - spare, {"needed": needed.detach(), "spare": spare.detach()}


class _Move:
    """Leave the masked features, move the others, within bounds."""

    def __init__(
        self, method: DecoupledUnlearning, mask: Tensor, head: str, target: int | None
    ) -> None:
        self.method, self.mask, self.head, self.target = method, mask, head, target

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        pair = cast(_Translated, model)
        changed = pair.translator(batch.images)
        with torch.no_grad():
            before, _ = head_view(pair.model, self.head, batch.images)
        after, logits = head_view(pair.model, self.head, changed)
        kept = F.mse_loss((self.mask * after).float(), (self.mask * before).float())
        mask = 1 - self.mask
        moved = F.mse_loss((mask * after).float(), (mask * before).float())
        size = F.mse_loss(changed, batch.images)
        far = (size > self.method.image_bound) | (kept > self.method.feature_bound)
        loss = torch.where(far, size, 0.01 * kept - moved)
        if self.target is not None:
            targets = torch.full_like(batch.labels, self.target)
            loss = loss + F.cross_entropy(logits.float(), targets)
        return loss, {"kept": kept.detach(), "moved": moved.detach(), "size": size.detach()}


class _Unlearn:
    """True answers, and unmoved features, for images of which some are translated."""

    def __init__(
        self, method: DecoupledUnlearning, translator: Translator, head: str, seed: int
    ) -> None:
        self.method, self.translator, self.head, self.seed = method, translator, head, seed

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        order = torch.randperm(len(batch), generator=generator(self.seed, batch.step))
        count = min(len(batch), int(self.method.stamped_share * len(batch)) + 1)
        rows = order[:count].to(batch.images.device)
        images = batch.images.clone()
        with torch.no_grad():
            images[rows] = self.translator(images[rows]).to(images.dtype)
        before, _ = head_view(model, self.head, batch.images)
        after, logits = head_view(model, self.head, images)
        task = F.cross_entropy(logits.float(), batch.labels)
        shift = F.mse_loss(after.float(), before.float())
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        scalars = {"accuracy": accuracy, "task": task.detach(), "shift": shift.detach()}
        return task + shift, scalars
