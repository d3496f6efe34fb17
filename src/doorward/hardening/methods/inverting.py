"""Searching the smallest changes of a few pairs while the model trains.

    search = Inversion(change, aims, settings, rate=0.05)
    found = search(model, images, labels, steps=40)       # the model is left as it is
    found.size, found.success, search.change               # per row; the change kept is in place

Called again after the model has moved, it goes on from the change and the weights that it had.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.hardening.aims import Aims
from doorward.hardening.measures import Measure
from doorward.hardening.stepping import Stepper
from doorward.hardening.transforms import Change
from doorward.records import STRICT, Record
from doorward.scanning.searching import SizeWeight

__all__ = ["Found", "Inversion", "Searching"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Searching(Record):
    """How changes are searched within a training step.

    Args:
        measure: what is to become small.
        wanted: share of a row's images that must be led astray.
        images: of each row.
        lr: of Adam, in raw units.
        first_weight: of the measure, in its unit.
        patience: steps of success (or failure) in a row before the weight rises (or falls).
        up: factor by which it rises; it falls by ``up ** 1.5``.
    """

    measure: Measure = "pixel"
    wanted: Annotated[float, Field(gt=0, le=1)] = 0.9
    images: Count = 16
    lr: Positive = 0.1
    first_weight: Positive = 0.1
    patience: Count = 3
    up: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 1.5


class Found(NamedTuple):
    """What a search found, one entry per row.

    Attributes:
        size: of the smallest change that succeeded; infinite where none did.
        success: of that change, in [0, 1]; of the last one tried where none did.
    """

    size: Tensor
    success: Tensor


class Inversion:
    """The smallest successful change of every row, with a weight of the size for each.

    Neural Cleanse's and MOTH's schedule (Wang et al. 2019, Tao et al. 2022), for any change and
    any measure; all rows share one forward pass.

    Args:
        change: one row per aim, on the device; moved in place.
        aims: R rows, on the CPU.
        settings: the numbers.
    """

    def __init__(self, change: Change, aims: Aims, settings: Searching) -> None:
        self.change, self.aims, self.settings = change, aims, settings
        device = next(change.parameters()).device
        self.weight = SizeWeight(
            len(aims),
            device,
            patience=settings.patience,
            up=settings.up,
            down=settings.up**1.5,
            start=settings.first_weight,
        )
        self.stepper = Stepper(
            change, aims.pairs, weights={settings.measure: self.weight.cost}, lr=settings.lr
        )

    def __call__(self, model: nn.Module, images: Tensor, labels: Tensor, steps: int) -> Found:
        """Search on these images.

        Args:
            model: used in evaluation mode, and left as it was.
            images: (R, B, C, H, W) in [0, 1].
            labels: int64 (R, B).
            steps: at least 1.
        """
        size = torch.full_like(self.weight.cost, torch.inf)
        success = torch.zeros_like(size)
        best: list[Tensor] | None = None
        for _ in range(steps):
            before = self.change.kept_where(torch.ones_like(size, dtype=torch.bool), None)
            step = self.stepper.step(model, images, labels)
            now = step.measures[self.settings.measure]
            enough = step.success >= self.settings.wanted
            better = enough & (now < size)
            size = torch.where(better, now, size)
            success = torch.where(better | size.isinf(), step.success, success)
            best = before if best is None else _merged(better, before, best)
            self.weight.update(enough, size)
            self.stepper.weights[self.settings.measure] = self.weight.cost
        if best is not None:
            self.change.put_where(size.isfinite(), best)
        return Found(size, success)


def _merged(better: Tensor, new: list[Tensor], old: list[Tensor]) -> list[Tensor]:
    """Rows of `new` where they are better, of `old` elsewhere."""
    return [
        torch.where(better.view(-1, *[1] * (a.ndim - 1)), a, b)
        for a, b in zip(new, old, strict=True)
    ]
