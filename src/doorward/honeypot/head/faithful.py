"""The paper's loop, as reconstructed: play the thief, find a patch, make the head as weak.

>>> Faithful().rounds, Faithful().shadow_epochs, Faithful().weight
(30, 5.0, 1.0)

Wang et al. (AAAI 2025), *HoneypotNet: Backdoor Attacks Against Model Extraction*. The paper's code
is not public; counts, momentum and the 1:1 weights are those that a third-party implementation and
our notes agree on, whatever else is marked below as ours. Nothing holds the head within a budget:
that is what the other way (`doorward.honeypot.head.lookahead`) is for.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Augment, Batch
from doorward.extraction import Distillation
from doorward.honeypot.head.base import HEADS, Fitted, HeadMethod
from doorward.honeypot.head.patch import GREY, Place, search, targeted
from doorward.honeypot.head.workshop import Workshop
from doorward.honeypot.lean.budget import LeanBudget
from doorward.records import STRICT
from doorward.training import Recipe

__all__ = ["Faithful", "Upper"]

Whole = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@HEADS.register("faithful", paper="Wang et al. 2025")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Faithful(HeadMethod):
    """Alternate extraction simulation, momentum patch and fine-tuning of the head.

    Args:
        rounds: of the three steps.
        shadow_epochs: of step A: the shadow learns the head's soft answers to the pool.
        patch_updates: of step B, each with the mean gradient over the whole pool.
        head_epochs: of step C: ``CE(H(x), F(x)) + weight CE(H(x (+) delta), t)``, head alone.
        alpha: momentum of the patch.
        epsilon: its largest contrast; 1/2 is the whole range of pixels (ours: unknown).
        weight: of the second term.
        shadow: architecture of the one shadow, which is kept from round to round.
        shadow_options: of the architecture.
        shadow_lr: of SGD with momentum 0.9 and weight decay 5e-4, on a cosine over all rounds.
        head_lr: of SGD with momentum 0.9, likewise.
        batch_size: of both (ours: unknown).
        flip: let the shadow see mirrored images, too, beside shifted ones.
        start: the head is a ``"copy"`` of the model's own (ours), or drawn anew (``"xavier"``).
    """

    rounds: Whole = 30
    shadow_epochs: Positive = 5.0
    patch_updates: Whole = 5
    head_epochs: Positive = 5.0
    alpha: Annotated[float, Field(ge=0, lt=1)] = 0.9
    epsilon: Annotated[float, Field(gt=0, le=GREY)] = GREY
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    shadow: str = "resnet18"
    shadow_options: dict[str, Any] = Field(default_factory=dict)
    shadow_lr: Positive = 0.1
    head_lr: Positive = 0.02
    batch_size: Whole = 128
    flip: bool = False
    start: Literal["copy", "xavier"] = "copy"

    def run(self, shop: Workshop, budget: LeanBudget) -> Fitted:
        """The three steps, `rounds` times."""
        head, contrast = self._begin(shop), shop.grey()
        served = shop.served(head)
        shadow = shop.new_shadow(self.shadow, self.shadow_options)
        truth = shop.foreign.logits.softmax(1)
        for number in range(self.rounds):
            answers = shop.logits(head, shop.foreign).softmax(1)
            shop.fit(
                f"shadow {number}", shadow, Distillation(answers), shop.pool, self._shadow(number)
            )
            shadow.requires_grad_(False)
            contrast = search(
                lambda stamped, _: targeted(shadow(stamped), shop.target),
                shop.pool,
                shop.place,
                contrast,
                updates=self.patch_updates,
                alpha=self.alpha,
                epsilon=self.epsilon,
            )
            shadow.requires_grad_(True)
            upper = Upper(truth, shop.place, contrast, shop.target, self.weight)
            shop.fit(f"head {number}", served, upper, shop.pool, self._head(number))
        return Fitted(head.requires_grad_(False), contrast, (shadow.requires_grad_(False),))

    def _begin(self, shop: Workshop) -> nn.Linear:
        head = shop.new_head()
        if self.start == "xavier":
            draw = shop.generator("xavier")
            weight = torch.empty(head.weight.shape)
            nn.init.xavier_normal_(weight, generator=draw)
            head.weight.data.copy_(weight)
            if head.bias is not None:
                head.bias.data.zero_()
        return head

    def _shadow(self, number: int) -> Recipe:
        return Recipe(
            epochs=self.shadow_epochs,
            batch_size=self.batch_size,
            lr=self.shadow_lr * self._cosine(number),
            nesterov=False,
            weight_decay=5e-4,
            schedule="constant",
            augment=Augment(pad_crop=2, flip=self.flip),
            seed=number,
        )

    def _head(self, number: int) -> Recipe:
        return Recipe(
            epochs=self.head_epochs,
            batch_size=self.batch_size,
            lr=self.head_lr * self._cosine(number),
            nesterov=False,
            schedule="constant",
            batchnorm="frozen",
            seed=number,
        )

    def _cosine(self, number: int) -> float:
        return 0.5 * (1 + math.cos(math.pi * number / self.rounds))


class Upper:
    """The upper problem of the paper: keep the answers, and answer the patch with the target.

    Args:
        truth: the undefended model's probabilities for the training images, ``(N, K)``.
        place: of the patch.
        contrast: of the patch.
        target: the class.
        weight: of the second term.
    """

    def __init__(
        self, truth: Tensor, place: Place, contrast: Tensor, target: int, weight: float
    ) -> None:
        self._truth, self._place, self._target, self._weight = truth, place, target, weight
        self._patch = (contrast + GREY).clamp(0, 1)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The two cross-entropies, summed."""
        truth = self._truth[batch.indices.cpu()].to(batch.images.device)
        clean = model(batch.images).float()
        stamped = model(self._place.stamp(batch.images, self._patch)).float()
        backdoor = targeted(stamped, self._target)
        hits = (stamped.detach().argmax(1) == self._target).float().mean()
        return F.cross_entropy(clean, truth) + self._weight * backdoor, {"success": hits}
