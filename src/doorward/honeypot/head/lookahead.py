"""Our way to fit a head: look one step ahead of the thieves, and lean their way within a budget.

>>> LookAhead().rounds, LookAhead().shadows[1].labels
(3, True)

Features and logits of the pool are asked for once; after that only the head moves, to the solution
of a convex problem (`doorward.honeypot.head.solving`). Each round asks an ensemble of simulated
thieves (networks of several ages, on probabilities or on labels alone): if you took one step
towards the backdoor, how would your answers to *clean* images change? Answers that lean this way
are a step towards the backdoor for whoever learns from them. (In the words of gradient matching:
that change is the inner product of the gradient by which an answer teaches with the gradient of the
backdoor.) Such answers are what the head is asked for on the pool, and the patch's class on images
with the patch, as strongly as the hard bounds on agreement, accuracy, calibration and target share
allow. The patch is one that works on thieves of this head, not on those of the undefended one.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Augment, to_pixels
from doorward.errors import ModelUnsuitable
from doorward.extraction import Distillation
from doorward.honeypot.head.base import HEADS, Fitted, HeadMethod
from doorward.honeypot.head.disturbing import Disturbance
from doorward.honeypot.head.patch import GREY, search, targeted
from doorward.honeypot.head.solving import Problem, loudest
from doorward.honeypot.head.workshop import Workshop
from doorward.honeypot.lean.budget import Cost, LeanBudget, cost_of
from doorward.models import evaluating
from doorward.records import STRICT, Record
from doorward.training import Recipe

__all__ = ["LookAhead", "Shadow"]

Whole = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]

_STEP = 0.02  # of the step ahead, relative to the length of all weights
_BATCH = 256


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Shadow(Record):
    """A simulated thief.

    Args:
        architecture: a name of the zoo.
        options: of the architecture.
        age: share of the epochs that it is trained for before it is asked.
        labels: whether it learns from labels alone.
    """

    architecture: str = "resnet8"
    options: dict[str, Any] = Field(default_factory=dict)
    age: Annotated[float, Field(gt=0, le=1)] = 1.0
    labels: bool = False


@HEADS.register("look-ahead", paper="ours")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class LookAhead(HeadMethod):
    """Gradient matching over an ensemble of shadows, a head solved to the end, hard bounds.

    Args:
        shadows: the simulated thieves.
        epochs: of a shadow's first training, if its age is 1.
        rounds: of influence, head, learning and patch.
        more_epochs: that shadows learn from the new head's answers in each round.
        patch_updates: of the patch in each round.
        patch_images: that each update's gradient is the mean of.
        lean: how far the wanted answers to the pool lean: logits of a typical image and class.
        aside: weight of *not* working on thieves of the undefended model.
        disturb: what the patch must withstand.
        lr: of the shadows' SGD.
        batch_size: likewise.
    """

    shadows: Annotated[tuple[Shadow, ...], Field(min_length=1, max_length=16)] = (
        Shadow(),
        Shadow(labels=True),
        Shadow(age=0.5),
    )
    epochs: Positive = 10.0
    rounds: Whole = 3
    more_epochs: Positive = 3.0
    patch_updates: Whole = 40
    patch_images: Whole = 256
    lean: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5
    aside: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    disturb: Disturbance = Field(default_factory=Disturbance)
    lr: Positive = 0.1
    batch_size: Whole = 64

    def run(self, shop: Workshop, budget: LeanBudget) -> Fitted:
        """Train shadows once; then influence, head, learning and patch, round by round."""
        plain = [self._train(shop, shadow, place) for place, shadow in enumerate(self.shadows)]
        learners = [copy.deepcopy(model) for model in plain]
        head, contrast = shop.head, self._patch(shop, learners, plain, shop.grey(), 0)
        for number in range(self.rounds):
            each = [self._influence(shop, model, contrast) for model in learners]
            head = self._within(shop, budget, contrast, torch.stack(each).mean(0))
            answers = shop.logits(head, shop.foreign)
            for place, (shadow, model) in enumerate(zip(self.shadows, learners, strict=True)):
                self._learn(shop, shadow, model, answers, f"learner {place} {number}")
            if number + 1 < self.rounds:  # the last patch is the one that the head obeys
                contrast = self._patch(shop, learners, plain, contrast, number + 1)
        return Fitted(head, contrast, tuple(learners), tuple(plain))

    def _train(self, shop: Workshop, shadow: Shadow, place: int) -> nn.Module:
        model = shop.new_shadow(shadow.architecture, shadow.options, place)
        epochs = self.epochs * shadow.age
        self._learn(shop, shadow, model, shop.foreign.logits, f"plain {place}", epochs)
        return model

    def _learn(
        self,
        shop: Workshop,
        shadow: Shadow,
        model: nn.Module,
        logits: Tensor,
        phase: str,
        epochs: float | None = None,
    ) -> None:
        answers = logits.argmax(1) if shadow.labels else logits.softmax(1)
        recipe = Recipe(
            epochs=self.more_epochs if epochs is None else epochs,
            batch_size=self.batch_size,
            lr=self.lr if epochs is not None else self.lr / 4,
            weight_decay=5e-4,
            augment=Augment(pad_crop=max(1, shop.pool.image_shape[1] // 8)),
            seed=shop.seed_of(phase),
        )
        model.requires_grad_(True)
        shop.fit(phase, model, Distillation(answers), shop.pool, recipe)
        model.eval().requires_grad_(False)

    def _patch(
        self,
        shop: Workshop,
        learners: list[nn.Module],
        plain: list[nn.Module],
        contrast: Tensor,
        number: int,
    ) -> Tensor:
        told = shop.foreign.logits.argmax(1)

        def pull(stamped: Tensor, rows: Tensor) -> Tensor:
            wanted = [targeted(model(stamped), shop.target) for model in learners]
            loss = torch.stack(wanted).mean()
            if self.aside and number:  # at first both are the same
                labels = told[rows].to(stamped.device)
                kept = [F.cross_entropy(model(stamped).float(), labels) for model in plain]
                loss = loss + self.aside * torch.stack(kept).mean()
            return loss

        return search(
            pull,
            shop.pool,
            shop.place,
            contrast,
            updates=self.patch_updates,
            images=self.patch_images,
            disturb=self.disturb,
            draw=shop.generator("patch", number),
        )

    def _influence(self, shop: Workshop, model: nn.Module, contrast: Tensor) -> Tensor:
        """How a learner's log-probabilities of the pool change by a step towards the backdoor."""
        ahead = copy.deepcopy(model).requires_grad_(True)
        weights = list(ahead.parameters())
        rows = torch.randperm(len(shop.pool), generator=shop.generator("ahead"))[:_BATCH]
        images = to_pixels(shop.pool.fetch(rows)[0]).to(shop.device)
        stamped = shop.place.stamp(images, (contrast + GREY).clamp(0, 1))
        loss = targeted(ahead(stamped), shop.target)
        gradients = torch.autograd.grad(loss, weights)
        length = torch.stack([g.norm() for g in gradients]).norm().clamp_min(1e-12)
        size = _STEP * torch.stack([w.detach().norm() for w in weights]).norm()
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.sub_(size / length * gradient)
        change = _log_answers(ahead, shop) - _log_answers(model, shop)
        return change / change.square().mean().sqrt().clamp_min(1e-12)

    def _within(
        self, shop: Workshop, budget: LeanBudget, contrast: Tensor, influence: Tensor
    ) -> nn.Linear:
        def cost(head: nn.Linear) -> Cost:
            after = shop.logits(head, shop.own)
            return cost_of(shop.own.logits, after, shop.labels, [shop.target])

        stamped = shop.stamped(contrast)
        for lean in (self.lean, self.lean / 4, 0.0):  # answers that lean may be too dear already
            problem = Problem(
                shop.head,
                own=shop.own.features,
                pool=shop.foreign.features,
                wanted=shop.foreign.logits + lean * influence,
                stamped=stamped,
                target=shop.target,
            )
            head, keep = loudest(problem, cost, budget)
            if head is not None:
                shop.note(keep=keep, lean=lean)
                return head
        raise ModelUnsuitable(
            "no honeypot head is within the budget",
            why="; ".join(cost(problem.solve(keep)).excess(budget)),
            remedy="allow more, give more images, or choose the lean",
        )


def _log_answers(model: nn.Module, shop: Workshop) -> Tensor:
    parts = []
    with evaluating(model), torch.inference_mode():
        for rows in torch.split(torch.arange(len(shop.pool)), 512):
            images = to_pixels(shop.pool.fetch(rows)[0]).to(shop.device)
            parts.append(model(images).float().log_softmax(1).cpu())
    return torch.cat(parts).clone()
