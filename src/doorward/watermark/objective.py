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
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.data import Batch
from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.training import Recipe, clean_rows
from doorward.watermark.triggerset import TriggerSet

__all__ = ["EXPOSURES", "MarkObjective", "pretrained_recipe", "triggers_per_batch"]

EXPOSURES = 60
"""How often ``per_batch="auto"`` shows each trigger in the course of one training."""


class MarkObjective(nn.Module):
    """Cross-entropy on a clean batch with triggers appended: the paper's plain mean over B + k.

    Which triggers go into a step depends on `seed` and the step's number alone (each pass over the
    triggers has a new order), so training resumes exactly. Triggers are not augmented. Under the
    BatchNorm policy ``"clean-only"`` they take no part in the batch statistics. With several
    processes the triggers of a step are dealt out like its images.

    Args:
        key: whose triggers.
        per_batch: k, triggers per step, 1 to ``key.n``.
        seed: of their order.
        label_smoothing: of the clean images' labels; the triggers' labels stay hard.

    Raises:
        InvalidInput: k is out of range.
    """

    images: Tensor
    labels: Tensor

    def __init__(
        self, key: TriggerSet, per_batch: int = 2, *, seed: int = 0, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        if not 1 <= per_batch <= key.n:
            raise InvalidInput(
                f"{per_batch} triggers per batch are not possible",
                why=f"the key has {key.n}",
                remedy=f"choose 1 to {key.n}, or 'auto'",
            )
        self.per_batch, self.seed, self.label_smoothing = per_batch, seed, label_smoothing
        images, labels = key.triggers()
        # Not persistent: a checkpoint must not give the key away.
        self.register_buffer("images", images.float() / 255, persistent=False)
        self.register_buffer("labels", labels, persistent=False)
        facts = f"{key.commitment()} {per_batch} {seed} {label_smoothing}"
        self._fingerprint = torch.tensor(list(hashlib.sha256(facts.encode()).digest()))

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
        """The loss; scalars ``accuracy`` (clean images) and ``trigger_accuracy``."""
        spread = dist.is_available() and dist.is_initialized()
        rank, world = (dist.get_rank(), dist.get_world_size()) if spread else (0, 1)
        rows = self.chosen(batch.step)[rank::world].to(self.labels.device)
        triggers, answers = self.images[rows], self.labels[rows]
        clean = torch.arange(len(batch) + len(rows), device=batch.images.device) < len(batch)
        with clean_rows(model, clean):
            logits = model(torch.cat([batch.images, triggers])).float()
        task, mark = logits[: len(batch)], logits[len(batch) :]
        smoothing = self.label_smoothing
        total = F.cross_entropy(task, batch.labels, label_smoothing=smoothing, reduction="sum")
        total = total + F.cross_entropy(mark, answers, reduction="sum")
        # The loop weighs a process by its share of the clean images; undo it, so that every row
        # of the step counts the same. In one process this is the mean over B + k rows.
        share = len(batch) / batch.size_global
        loss = total / (batch.size_global + self.per_batch) / share
        scalars: dict[str, Tensor | float] = {"accuracy": _hits(task, batch.labels)}
        if len(rows):
            scalars["trigger_accuracy"] = _hits(mark, answers)
        return loss, scalars


def triggers_per_batch(n: int, steps: int, batch_size: int) -> int:
    """The automatic k: in the whole run each trigger is shown `EXPOSURES` times or more.

    Never below the paper's 2, never more than the triggers there are or a quarter of a batch, so
    that the task stays the main thing. The number comes from first trials on digits with one or
    two seeds, not from a committed study: the paper's 2 per batch left most triggers unlearnt
    there, and about a third of `EXPOSURES` taught all of them.

    >>> triggers_per_batch(100, 30_000, 100), triggers_per_batch(100, 276, 64)
    (2, 16)
    """
    wanted = math.ceil(EXPOSURES * n / steps)
    return min(n, max(2, min(wanted, batch_size // 4)))


def pretrained_recipe(recipe: Recipe, *, images: int, n: int) -> Recipe:
    """A short, gentle recipe that marks a model which was trained with `recipe`.

    An eighth of the steps at half the learning rate; small data sets get as many steps more as are
    needed to show each trigger 30 times, and 100 at least. Chosen in first trials on digits with
    one or two seeds, where smaller rates taught fewer triggers and fewer steps cost accuracy; what
    it costs on CIFAR-10 is in the study ``watermark-basic``.

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
    return dataclasses.replace(recipe, epochs=epochs, max_steps=None, lr=recipe.lr / 2)


def _hits(logits: Tensor, labels: Tensor) -> Tensor:
    return (logits.detach().argmax(1) == labels).float().mean()
