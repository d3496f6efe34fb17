"""Training on changes of pairs, a few steps for each choice of pairs.

This is what DECK-R, MOTH and the baselines by Neural Cleanse have in common. A period is some rows
(pairs, or targets in the warm-up), a change for each, and so many training steps. In its first
step the changes are searched for long, in the others they follow the model.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.hardening.aims import Aims
from doorward.hardening.methods.images import ClassImages
from doorward.hardening.methods.inverting import Found, Inversion
from doorward.hardening.methods.mixing import Hard, HardObjective
from doorward.hardening.transforms import Change
from doorward.training.context import Context

if TYPE_CHECKING:
    from doorward.hardening.methods.pairhardening import PairHardening

__all__ = ["Period", "PeriodicObjective"]


@dataclass
class Period:
    """Rows that are trained on for some steps.

    Args:
        aims: R rows, on the CPU.
        search: of their changes.
        first_steps: of the search in the first training step.
        left: training steps that remain.
        family: name of the kind of change.
        begun: whether the first step is done.
        sizes: found in each step, (R,), infinite where nothing was.
    """

    aims: Aims
    search: Inversion
    first_steps: int
    left: int
    family: str
    begun: bool
    sizes: list[Tensor]

    def size(self) -> Tensor:
        """Mean size over the steps that found one, (R,) on the CPU; infinite for none."""
        table = torch.stack(self.sizes).cpu()
        found = table.isfinite()
        mean = table.where(found, 0).sum(0) / found.sum(0).clamp_min(1)
        return mean.where(found.any(0), torch.inf)


class PeriodicObjective(HardObjective):
    """Period after period; subclasses say what comes next.

    Args:
        method: the numbers.
        work: images to draw from.
        context: seeds, device, the given model.
    """

    def __init__(self, method: PairHardening, work: ImageData, context: Context) -> None:
        super().__init__(method, context)
        self.numbers, self.image_shape = method, work.image_shape
        self.images = ClassImages(work, context.device)
        self.classes = work.num_classes
        self.period: Period | None = None

    @abstractmethod
    def next(self) -> Period:
        """The period that begins now."""

    def searched(self, model: nn.Module, period: Period, found: Found) -> None:
        """Called after the first search of a period, before the model moves."""
        return

    def ended(self, period: Period) -> None:
        """Called after a period's last step."""
        return

    def fresh(self) -> None:
        """An unfinished period is dropped: between parts of a training there is none."""
        self.period = None

    def new_period(
        self, aims: Aims, change: Change, *, first_steps: int, length: int, family: str
    ) -> Period:
        """A period of rows whose changes begin where `change` is."""
        search = Inversion(change.to(self.device), aims, self.numbers.searching)
        return Period(aims, search, first_steps, length, family, begun=False, sizes=[])

    def hard(self, model: nn.Module, batch: Batch) -> Hard:
        """Search, then change images that the search has not seen."""
        if self.period is None:
            self.period = self.next()
        period = self.period
        steps = self.numbers.next_steps if period.begun else period.first_steps
        images, labels = self.images.draw(
            period.aims, self.numbers.searching.images, self.draw("search")
        )
        found = period.search(model, images, labels, steps)
        period.sizes.append(found.size)
        if not period.begun:
            self.searched(model, period, found)
        hard = self._stamped(period, found, len(batch), batch.images)
        period.begun, period.left = True, period.left - 1
        if period.left == 0:
            self.ended(period)
            self.period = None
        return hard

    @torch.no_grad()
    def _stamped(self, period: Period, found: Found, count: int, like: Tensor) -> Hard:
        """Images of the rows whose changes work, changed."""
        numbers = self.numbers
        useful = (found.success >= numbers.useful) & self.small(found)
        rows = useful.nonzero().flatten().cpu()
        scalars: dict[str, Tensor | float] = {
            "success": found.success.mean(),
            "reached": found.size.isfinite().float().mean(),
            "size": found.size.where(found.size.isfinite(), torch.nan).nanmean(),
        }
        if not len(rows):
            nothing = torch.empty(0, dtype=torch.int64, device=like.device)
            return Hard(like[:0], nothing, scalars)
        each = max(1, round(numbers.hard_share * count / len(rows)))
        images, labels = self.images.draw(period.aims.taken(rows), each, self.draw("stamp"))
        change = period.search.change
        changed: Tensor = change(images, rows.to(images.device))
        if numbers.reach != 1:
            changed = (images + numbers.reach * (changed - images)).clamp(0, 1)
        return Hard(changed.flatten(0, 1), labels.flatten(), scalars)

    def small(self, found: Found) -> Tensor:
        """Which rows' changes are small enough to be trained on, bool (R,)."""
        return torch.ones_like(found.success, dtype=torch.bool)
