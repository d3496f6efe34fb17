"""The mark as an objective of the one training loop: a few triggers in every batch.

>>> import torch
>>> from torch import nn
>>> from doorward.data import Batch
>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=5, classes=3, image_shape=(1, 8, 8))
>>> objective = MarkObjective(key, per_batch=2)
>>> batch = Batch(images=torch.rand(4, 1, 8, 8), labels=torch.tensor([0, 1, 2, 1]),
...               indices=torch.arange(4), step=0, epoch=0, size_global=4)
>>> loss, scalars = objective(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), batch)
>>> loss.shape, sorted(scalars)
(torch.Size([]), ['accuracy', 'trigger_accuracy'])
"""

from __future__ import annotations

import dataclasses
import hashlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import InvalidInput
from doorward.files import canonical_json
from doorward.randomness import generator
from doorward.training import Recipe, clean_rows
from doorward.watermark.methods import Embedding, MarkStep, Plain, attach, name_of, processes
from doorward.watermark.triggerset import TriggerSet

__all__ = ["EXPOSURES", "MarkObjective", "pretrained_recipe", "triggers_per_batch"]

EXPOSURES = Plain.exposures
"""How often ``per_batch="auto"`` shows each trigger in the course of one training."""


class MarkObjective(nn.Module):
    """Cross-entropy on clean images and triggers: the paper's plain mean over B + k.

    Which triggers go into a step depends on `seed` and the step's number alone (each pass over the
    triggers has a new order), so training resumes exactly. Triggers are not augmented, unless the
    method says so. Under the BatchNorm policy ``"clean-only"`` they take no part in the batch
    statistics. With several processes the triggers of a step are dealt out like its images.

    Args:
        key: whose triggers.
        per_batch: k, triggers per step, 1 to ``key.n``.
        seed: of their order, and of what a method draws.
        label_smoothing: of the clean images' labels; the triggers' labels stay hard.
        method: how triggers are learnt; None for `Plain`.
        steps: of the training; a method that has a warm-up needs it.

    Raises:
        InvalidInput: k is out of range, or the length of the warm-up is unknown.
    """

    images: Tensor
    labels: Tensor

    def __init__(
        self,
        key: TriggerSet,
        per_batch: int = 2,
        *,
        seed: int = 0,
        label_smoothing: float = 0.0,
        method: Embedding | None = None,
        steps: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= per_batch <= key.n:
            raise InvalidInput(
                f"{per_batch} triggers per batch are not possible",
                why=f"the key has {key.n}",
                remedy=f"choose 1 to {key.n}, or 'auto'",
            )
        self.per_batch, self.seed, self.label_smoothing = per_batch, seed, label_smoothing
        self.method = method or Plain()
        if self.method.warmup and steps is None:
            raise InvalidInput(
                f"a warm-up of {self.method.warmup:.0%} of an unknown number of steps",
                remedy="say how many steps the training has",
            )
        self.start = round(self.method.warmup * (steps or 0))
        common = ("batchnorm", "company", "shift", "noise")
        self._warm = Plain(**{name: getattr(self.method, name) for name in common})
        images, labels = key.triggers()
        # Not persistent: a checkpoint must not give the key away.
        self.register_buffer("images", images.float() / 255, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        facts = f"{key.commitment()} {per_batch} {seed} {label_smoothing}{self.extra_repr()}"
        self._fingerprint = torch.tensor(list(hashlib.sha256(facts.encode()).digest()))

    def extra_repr(self) -> str:
        """The method, by which checkpoints tell objectives apart; nothing for the plain one."""
        if self.method == Plain():
            return ""
        options = canonical_json(self.method.to_dict()).decode()
        return f"{name_of(self.method)}, start={self.start}, options={options}"

    def get_extra_state(self) -> Tensor:
        """For checkpoints: which key this is, without a way back to it."""
        return self._fingerprint

    def set_extra_state(self, state: Tensor) -> None:
        """Refuse to resume a training that was begun with another key or another k."""
        if not torch.equal(state.cpu(), self._fingerprint):
            raise InvalidInput(
                "the checkpoint belongs to a marking with another key or per_batch",
                remedy="give the same ones again, or start over with resume=False",
            )

    def chosen(self, step: int) -> Tensor:
        """Positions of the triggers of a step, int64 ``(k,)``."""
        n, first = len(self.labels), step * self.per_batch
        passes = range(first // n, (first + self.per_batch - 1) // n + 1)
        orders = [
            torch.randperm(n, generator=generator(self.seed, "trigger order", number))
            for number in passes
        ]
        start = first - passes[0] * n
        return torch.cat(orders)[start : start + self.per_batch]

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """The loss; scalars ``accuracy`` (clean images) and ``trigger_accuracy``.

        Methods that learn at other weights too add ``changed_accuracy``: of the triggers there.
        """
        method = self.method if batch.step >= self.start else self._warm
        rank, world = processes()
        step = MarkStep(
            model,
            number=batch.step,
            seed=self.seed,
            company=batch.images[: -(-method.company // world)],
        )
        rows = self.chosen(batch.step).to(self.labels.device)
        images, targets = method.examples(step, self.images[rows], self.labels[rows], batch)
        images, targets = images[rank::world], targets[rank::world]
        images = method.moved(step, images, targets)
        clean = torch.arange(len(batch) + len(images), device=batch.images.device) < len(batch)
        with clean_rows(model, clean):
            logits = model(torch.cat([batch.images, images])).float()
        task, mark = logits[: len(batch)], logits[len(batch) :]
        smoothing = self.label_smoothing
        total = F.cross_entropy(task, batch.labels, label_smoothing=smoothing, reduction="sum")
        total = total + method.weight * F.cross_entropy(mark, targets, reduction="sum")
        scalars = {"accuracy": _hits(task, batch.labels), "trigger_accuracy": _hits(mark, targets)}
        besides = method.besides(step, images, targets)
        if besides is not None:
            total = total + attach(besides, step.parameters)
        if type(self.method).besides is not Embedding.besides:
            found = None if besides is None else besides.logits
            scalars["changed_accuracy"] = _hits(found, targets)
        # The loop weighs a process by its share of the clean images; undo it, so that every row
        # of the step counts the same. In one process this is the mean over B + k rows.
        share = len(batch) / batch.size_global
        return total / (batch.size_global + self.per_batch) / share, scalars


def triggers_per_batch(n: int, steps: int, batch_size: int, exposures: int = EXPOSURES) -> int:
    """The automatic k: in the whole run each trigger is shown `exposures` times or more.

    Never below the paper's 2, never more than the triggers there are or a quarter of a batch, so
    that the task stays the main thing. The number comes from first trials on digits with one or
    two seeds, not from a committed study: the paper's 2 per batch left most triggers unlearnt
    there, and about a third of `EXPOSURES` taught all of them.

    >>> triggers_per_batch(100, 30_000, 100), triggers_per_batch(100, 276, 64)
    (2, 16)
    """
    wanted = math.ceil(exposures * n / steps)
    return min(n, max(2, min(wanted, batch_size // 4)))


def pretrained_recipe(recipe: Recipe, *, images: int, n: int) -> Recipe:
    """A short, gentle recipe that marks a model which was trained with `recipe`.

    An eighth of the steps at a quarter of the learning rate, with BatchNorm statistics from clean
    rows; small data sets get as many steps more as are needed to show each trigger 30 times, and
    100 at least. Chosen in first trials with ResNet-8 on CIFAR-10 (one seed), where half the rate
    cost twice the accuracy, mixed statistics more, a tenth of the rate left triggers unlearnt, and
    imitating the unmarked model's answers did not help. What it costs is in the study
    ``watermark-functionality``.

    Args:
        recipe: what the model was trained with.
        images: size of the training set.
        n: number of triggers.

    >>> pretrained_recipe(Recipe(epochs=12, batch_size=256, lr=0.4), images=50_000, n=100).epochs
    1.5
    """
    largest = triggers_per_batch(n, 1, recipe.batch_size)
    least = max(100, math.ceil(30 * n / largest))
    steps = max(recipe.steps(images) / 8, least)
    epochs = round(steps / recipe.steps_per_epoch(images), 2)
    policy = "clean-only" if recipe.batchnorm == "train" else recipe.batchnorm
    return dataclasses.replace(
        recipe, epochs=epochs, max_steps=None, lr=recipe.lr / 4, batchnorm=policy
    )


def _hits(logits: Tensor | None, targets: Tensor) -> Tensor | float:
    # Every process names the same scalars in every step; NaN is left out of their means.
    if logits is None or not len(targets):
        return math.nan
    labels = targets if targets.ndim == 1 else targets.argmax(1)
    return (logits.detach().argmax(1) == labels).float().mean()
