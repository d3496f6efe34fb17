"""Searching one change per row, all at once: what is minimised, what is kept, when a row is done.

    search = PairSearch(aims, pool, gauges, settings, orders)
    context.fit("attack", Attacked(model, change), search, clean, recipe)
    search.settle_into(change)

Rows do not touch each other: each has its own parameters, images, weight and end.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch
from doorward.hardening.aims import ANY, Aims
from doorward.hardening.measures import UNITS, Gauges, Measure
from doorward.hardening.pool import Pool, Shown
from doorward.hardening.settings import Settings
from doorward.hardening.transforms import Change
from doorward.hardening.transforms.base import folded
from doorward.models.layers import Behind
from doorward.scanning.searching import SizeWeight

__all__ = ["Attacked", "Led", "PairSearch", "excess", "led"]

STEEP = 10.0
"""Weight of what exceeds a limit, as a share of it, against the cross-entropy."""


class Attacked(Behind):
    """A frozen model behind one trainable change per row."""

    def __init__(self, model: nn.Module, change: Change) -> None:
        super().__init__(model)
        self.change = change


class Led(NamedTuple):
    """How far images are led to where they shall go.

    Attributes:
        loss: (R, B), differentiable.
        hits: float (R, B), 1 where it is done.
    """

    loss: Tensor
    hits: Tensor


def led(logits: Tensor, labels: Tensor, targets: Tensor, confidence: float | None = None) -> Led:
    """How far images are from their targets, or from leaving their labels where there is none.

    Cross-entropy goes on to push images that have arrived, against the measure that is to shrink;
    a margin (Carlini and Wagner 2017; in Feature Space Attack with a confidence of 1) leaves them.

    Args:
        logits: (R, B, K).
        labels: int64 (R, B).
        targets: int64 (R,); -1 for any class but the label.
        confidence: by how much the wanted logit shall exceed all others (or the label's fall below
            one of them); None for cross-entropy.

    >>> even = torch.zeros(2, 1, 4)
    >>> led(even, torch.tensor([[0], [0]]), torch.tensor([1, -1])).loss.exp()[:, 0]
    tensor([4.0000, 1.3333])
    """
    free = (targets == ANY)[:, None].expand_as(labels)
    wanted = torch.where(free, labels, targets[:, None])
    own = F.one_hot(wanted, logits.shape[2]).bool()
    at, rest = logits.gather(2, wanted[..., None])[..., 0], logits.masked_fill(own, -torch.inf)
    if confidence is None:
        whole = logits.logsumexp(2)
        towards, away = whole - at, whole - rest.logsumexp(2)
    else:
        gap = rest.amax(2) - at
        towards, away = F.relu(confidence + gap), F.relu(confidence - gap)
    hit = (logits.detach().argmax(2) == wanted) != free
    return Led(torch.where(free, away, towards), hit.float())


def excess(measured: dict[Measure, Tensor], limits: dict[Measure, float]) -> Tensor | float:
    """What the measures (R,) exceed their limits by, as shares of them, summed and weighted."""
    total: Tensor | float = 0.0
    for name, limit in limits.items():
        total = total + STEEP * F.relu(measured[name] / limit - 1)
    return total


class PairSearch:
    """Leads every row's images to its target by a change that is small, or within limits.

    Minimised is, per row, the mean loss (see `led`) plus the weighted measure plus what exceeds
    the limits; after each pass over the images the weight is adapted and a better change is kept
    (Wang et al. 2019 and MOTH, Tao et al. 2022: `SizeWeight`). Better is a smaller one of those
    that succeed, or without a measure to shrink, a more successful one of those within the limits.

    Args:
        aims: P rows, on the device.
        pool: images by class.
        gauges: of the settings' measures.
        settings: the numbers.
        orders: int64 (S, n), see `Pool.shown`.

    Attributes:
        value: (P,), the kept change's measure; its failure rate where nothing is shrunk; infinite
            for none.
        success: (P,), share of the images that the kept change led astray in the search.
    """

    def __init__(
        self, aims: Aims, pool: Pool, gauges: Gauges, settings: Settings, orders: Tensor
    ) -> None:
        self.aims, self.pool, self.gauges, self.orders = aims, pool, gauges, orders
        self.settings = settings
        device, count = orders.device, len(aims)
        self.weight = SizeWeight(
            count,
            device,
            patience=settings.patience,
            up=settings.up,
            down=settings.up**1.5,
            start=settings.first_weight,
            stall=settings.stall,
        )
        self.rows = torch.arange(count, device=device)
        self.value = torch.full((count,), torch.inf, device=device)
        self.success = torch.zeros(count, device=device)
        self.best: list[Tensor] | None = None
        self.seen, self.work = 0, 0
        self._forget()

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Loss over all rows that are not done."""
        attacked = cast(Attacked, model)
        change, rows = attacked.change, self.rows
        if not len(rows):  # the loop goes on; its steps cost next to nothing
            idle = torch.stack([parameter.sum() for parameter in change.trained()]).sum()
            return 0 * idle, {"success": self.success.mean(), "searched": 0.0}
        aims = self.aims.taken(rows)
        shown = self.pool.shown(aims, batch.indices, self.orders)
        images = shown.images
        changed = change(images, rows)
        logits = folded(attacked(changed.flatten(0, 1)).float(), *changed.shape[:2])
        result = led(logits, shown.labels, aims.targets, self.settings.confidence)
        measured = self.gauges(change, rows, shown, images, changed)
        loss = shown.mean(result.loss) + excess(measured, self.settings.limits)
        shrink = self.settings.shrink
        if shrink is not None:
            loss = loss + self.weight.cost[rows] * measured[shrink] / UNITS[shrink]
        self._note(rows, shown, result, measured)
        scalars: dict[str, Tensor | float] = {
            "success": shown.mean(result.hits).mean(),
            "searched": float(len(rows)),
        }
        self.work += changed.shape[0] * changed.shape[1]
        self.seen += len(batch.indices)
        if self.seen >= len(self.pool):
            self._settle(change)
        return loss.sum(), scalars

    def settle_into(self, change: Change) -> None:
        """Put the kept changes back into `change`; rows that never succeeded stay as they are."""
        if self.best is not None:
            change.put_where(self.value.isfinite(), self.best)

    @torch.no_grad()
    def _settle(self, change: Change) -> None:
        """After a pass: keep better changes, adapt the weights, see which rows are done."""
        success = self.hits / self.shown.clamp_min(1)
        measures = {name: total / max(self.batches, 1) for name, total in self.measured.items()}
        open_ = torch.zeros_like(self.weight.settled).index_fill_(0, self.rows, True)
        within = open_ & (self.shown > 0)
        for name, limit in self.settings.limits.items():
            within = within & (measures[name] <= limit)
        enough = within & (success >= self.settings.wanted)
        shrink = self.settings.shrink
        value = measures[shrink] if shrink is not None else 1 - success
        better = (enough if shrink is not None else within) & (value < self.value)
        self.best = change.kept_where(better, self.best)
        self.value = torch.where(better, value, self.value)
        self.success = torch.where(better, success, self.success)
        self.weight.update(enough, self.value)
        done = self.weight.settled if shrink is not None else self.success >= self.settings.wanted
        self.rows = (open_ & ~done).nonzero().squeeze(1)
        self._forget()

    def _note(
        self, rows: Tensor, shown: Shown, result: Led, measured: dict[Measure, Tensor]
    ) -> None:
        self.hits.index_add_(0, rows, (result.hits * shown.counted).sum(1))
        self.shown.index_add_(0, rows, shown.counted.sum(1))
        for name, value in measured.items():
            self.measured[name].index_add_(0, rows, value.detach().float())
        self.batches += 1

    def _forget(self) -> None:
        zero = torch.zeros_like(self.success)
        self.hits, self.shown = zero.clone(), zero.clone()
        self.measured: dict[Measure, Tensor] = {name: zero.clone() for name in self.gauges.names}
        self.batches, self.seen = 0, 0
