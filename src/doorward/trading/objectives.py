"""What a lock minimises: four losses on two models that share their weights.

::

    objective = LockObjective(model, masks, backdoor, Locking(), steps=1000, seed=0)
    fit(model, objective, data, recipe)
    bank = objective.bank()

Without masks (the trial): clean images right, triggered images the target. With masks (unlocked):
clean images right, triggered images right. Weights, masks and trigger learn from one backward pass
per model; weights go through the loop's optimiser, the masks through Adam, the trigger by signs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import Batch
from doorward.randomness import generator
from doorward.trading.disturbances import disturbed
from doorward.trading.gradients import add, agreement, carried, pcgrad, yielding
from doorward.trading.masks import MaskBank, TrainedMasks
from doorward.trading.masks.gates import engaged, other_statistics
from doorward.trading.masks.placing import norm_layers
from doorward.trading.recovery import simulate
from doorward.trading.settings import Locking
from doorward.training import Recipe, clean_rows
from doorward.training.optimizers import load_optimizer, make_optimizer, optimizer_state
from doorward.training.schedules import learning_rate
from doorward.triggers import Additive, Backdoor

__all__ = ["LockObjective"]


class LockObjective(nn.Module):
    """The lock's losses, with the masks and the trigger that are trained along.

    Args:
        model: whose sites are masked.
        masks: to begin with; keyed kinds stay as they are.
        backdoor: trigger and label rule; an `Additive` trigger is learnt if the settings say so.
        settings: weights of the losses and everything else.
        steps: of the whole run.
        seed: of the choice of triggered rows, disturbances and simulated buyers.
    """

    def __init__(
        self,
        model: nn.Module,
        masks: TrainedMasks,
        backdoor: Backdoor,
        settings: Locking,
        *,
        steps: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.masks, self.rule, self.trigger = masks, backdoor.rule, backdoor.trigger
        self.settings, self.steps, self.seed = settings, steps, seed
        layers = norm_layers(model)
        self.norms = list(layers) if settings.statistics == "own" else []
        for i, name in enumerate(self.norms):
            mean, variance = layers[name].running_mean, layers[name].running_var
            assert mean is not None and variance is not None  # noqa: S101, PT018
            self.register_buffer(f"mean{i}", mean.detach().clone())
            self.register_buffer(f"variance{i}", variance.detach().clone())
        recipe = Recipe(optimizer="adam", lr=settings.mask_lr, schedule="cosine")
        self.rate = learning_rate(recipe, steps)
        trained = any(True for _ in masks.parameters())
        self.optimizer = make_optimizer(masks, recipe) if trained else None

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Loss and scalars of one batch; masks and trigger take their step."""
        settings, progress = self.settings, batch.step / self.steps
        draw = generator(self.seed, "lock", batch.step)
        marked, leaf, rows = self._marked(batch, progress, draw)
        truth = batch.labels[rows]
        wanted = self.rule.labels(truth)
        images = torch.cat([batch.images, leaf.to(batch.images.dtype)])
        clean = torch.arange(len(images), device=images.device) < len(batch)
        weights = [p for p in model.parameters() if p.requires_grad]
        extra = [] if marked is None else [leaf]

        with clean_rows(model, clean):
            usual, hit = _halves(model(images), len(batch))
        honest, attack = _loss(usual, batch.labels), _loss(hit, wanted)
        trial = honest + settings.attack * attack
        first = _slopes(trial, [*weights, *extra])

        values = self.masks.values()
        trained = list(self.masks.parameters())
        with self._unlocked(model, values), clean_rows(model, clean):
            open_usual, open_hit = _halves(model(images), len(batch))
        unlocked, restored = _loss(open_usual, batch.labels), _loss(open_hit, truth)
        opened = settings.unlocked * (unlocked + settings.restored * restored)
        second = _slopes(opened, [*weights, *extra, *trained])

        total, shared = trial.detach() + opened.detach(), len(weights)
        scalars: dict[str, Tensor | float] = {
            "trial_accuracy": _share(usual, batch.labels),
            "trial_attack": _share(hit, wanted),
            "unlocked_accuracy": _share(open_usual, batch.labels),
            "restored_accuracy": _share(open_hit, truth),
        }
        tasks = [first[:shared], second[:shared]]
        pull = add(first[shared : shared + len(extra)], second[shared : shared + len(extra)])
        if settings.pcgrad:
            scalars["agreement"] = agreement(*tasks)
        joined = pcgrad(tasks) if settings.pcgrad else add(tasks[0], tasks[1])
        kept = self._kept(model, batch, leaf, wanted, draw)
        if kept is not None:
            scalars["kept_loss"], slope = kept
            weight = settings.anti_recovery.weight if settings.anti_recovery else 0.0
            joined = add(joined, yielding(slope, joined, largest=weight))
        self._step_masks(second[shared + len(extra) :], trained, batch.step)
        if marked is not None:
            self._step_trigger(marked, pull[0])
        return carried(total, weights, joined), scalars

    def statistics(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Running means and variances of the masked model, by BatchNorm layer."""
        return {
            name: (getattr(self, f"mean{i}"), getattr(self, f"variance{i}"))
            for i, name in enumerate(self.norms)
        }

    def bank(self) -> MaskBank:
        """Masks and statistics as they are now: the key."""
        return self.masks.bank(self.statistics())

    def get_extra_state(self) -> dict[str, Any]:
        """Momenta of the masks, for the loop's checkpoints."""
        return {"optimizer": optimizer_state(self.optimizer) if self.optimizer else {}}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore what `get_extra_state` gave."""
        if self.optimizer:
            load_optimizer(self.optimizer, state["optimizer"])

    @contextmanager
    def _unlocked(self, model: nn.Module, values: dict[str, Tensor]) -> Iterator[None]:
        """The masked model: its masks, and its own statistics or the trial's, left as they are."""
        with ExitStack() as stack:
            stack.enter_context(engaged(model, self.masks.kind, values))
            if self.norms:
                stack.enter_context(other_statistics(model, self.statistics()))
            else:
                for layer in norm_layers(model).values():
                    stack.callback(setattr, layer, "training", layer.training)
                    layer.eval()
            yield

    def _marked(
        self, batch: Batch, progress: float, draw: torch.Generator
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Triggered images: with their graph (None if the trigger stays), cut off, and whose."""
        eligible = self.rule.eligible(batch.labels).nonzero().squeeze(1)
        count = max(1, min(len(eligible), round(self.settings.rate * len(batch))))
        order = torch.randperm(len(eligible), generator=draw)[:count]
        rows = eligible[order.to(eligible.device)]
        if not len(rows):  # a batch of the target class alone: nothing to attack, but no error
            rows = torch.zeros(1, dtype=torch.int64, device=batch.labels.device)
        tuning, images = self.settings.trigger, batch.images[rows].float()
        if tuning is None or not isinstance(self.trigger, Additive):
            with torch.no_grad():
                return None, self.trigger.apply(images).clamp(0, 1), rows
        self.trigger.tighten(tuning.budget(progress))
        self.trigger.pattern.requires_grad_(True)
        marked = self.trigger.apply(images).clamp(0, 1)
        shaken = round(tuning.robust * len(rows))
        if shaken:
            marked = torch.cat([disturbed(marked[:shaken], draw), marked[shaken:]])
        return marked, marked.detach().requires_grad_(True), rows

    def _kept(
        self, model: nn.Module, batch: Batch, leaf: Tensor, wanted: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, list[Tensor | None]] | None:
        """What a buyer would do now, and the slope that keeps the trigger working on his model."""
        plan = self.settings.anti_recovery
        if plan is None or batch.step < plan.begin * self.steps or batch.step % plan.every:
            return None
        turn = batch.step // plan.every % len(plan.buyers)
        return simulate(
            model,
            plan.buyers[turn],
            plan,
            clean=(batch.images, batch.labels),
            marked=(leaf.detach().to(batch.images.dtype), wanted),
            draw=draw,
        )

    def _step_masks(
        self, slopes: Sequence[Tensor | None], trained: Sequence[Tensor], step: int
    ) -> None:
        if self.optimizer is None:
            return
        for mask, slope in zip(trained, slopes, strict=True):
            mask.grad = torch.zeros_like(mask) if slope is None else slope
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.masks.confine()

    def _step_trigger(self, marked: Tensor, pull: Tensor | None) -> None:
        trigger, tuning = self.trigger, self.settings.trigger
        assert isinstance(trigger, Additive) and tuning is not None  # noqa: S101, PT018
        if pull is None:
            return
        (slope,) = torch.autograd.grad((marked * pull.to(marked.dtype)).sum(), [trigger.pattern])
        with torch.no_grad():
            trigger.pattern.sub_(tuning.step * trigger.eps * slope.sign())
            trigger.pattern.clamp_(-trigger.eps, trigger.eps)
        trigger.pattern.requires_grad_(False)

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.masks.name!r}, {self.rule!r}, {self.settings!r}, "
            f"{self.steps}, {self.seed})"
        )


def _halves(logits: Tensor, clean: int) -> tuple[Tensor, Tensor]:
    logits = logits.float()
    return logits[:clean], logits[clean:]


def _loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels)


def _share(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == labels).float().mean()


def _slopes(loss: Tensor, leaves: list[Any]) -> list[Tensor | None]:
    return list(torch.autograd.grad(loss, leaves, allow_unused=True))
