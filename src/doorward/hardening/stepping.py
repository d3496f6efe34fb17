"""The attack inside a training step: a few ascents on the batch at hand, then changed images.

>>> from doorward.hardening.transforms import Pervasive, Space
>>> change = Pervasive.for_pairs([(0, 1), (1, 0)], (1, 8, 8), Space(families=("additive",)))
>>> stepper = Stepper(change, [(0, 1), (1, 0)], limits={"pixel": 2.0})
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
>>> images, labels = torch.rand(2, 4, 1, 8, 8), torch.tensor([[0] * 4, [1] * 4])
>>> for _ in range(3):
...     step = stepper.step(model, images, labels)       # the model is left as it is
>>> step.success.shape, stepper.changed(images).requires_grad
(torch.Size([2]), False)

The rows are those of `change`; for other pairs make another (nothing is shared but the model).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from doorward.hardening.aims import ANY
from doorward.hardening.measures import UNITS, Gauges, Measure, Perceptual
from doorward.hardening.pool import Shown
from doorward.hardening.searching import excess, led
from doorward.hardening.transforms import Change
from doorward.hardening.transforms.base import folded
from doorward.models.modes import evaluating

__all__ = ["Step", "Stepper"]


class Step(NamedTuple):
    """What a step saw, before it moved.

    Attributes:
        success: (R,), share of the images that are led astray.
        loss: (R,), cross-entropy towards the target.
        measures: each measure by name, (R,).
    """

    success: Tensor
    loss: Tensor
    measures: dict[Measure, Tensor]


class Stepper:
    """Adam on the parameters of a change, against a model that trains meanwhile.

    Args:
        change: one row per pair; moved in place.
        pairs: (source, target) per row; a target of None leads anywhere else.
        limits: largest values of measures: the budget.
        weights: of measures that are to become small, in units of `UNITS`; one for all rows, or
            one per row, (R,).
        lr: of Adam, in raw units.
        perceptual: for ``"lpips"``.
    """

    def __init__(
        self,
        change: Change,
        pairs: Sequence[tuple[int | None, int | None]],
        *,
        limits: Mapping[Measure, float] | None = None,
        weights: Mapping[Measure, float | Tensor] | None = None,
        lr: float = 0.05,
        perceptual: Perceptual | None = None,
    ) -> None:
        self.change, self.limits = change, dict(limits or {})
        self.weights: dict[Measure, float | Tensor] = dict(weights or {})
        device = next(change.parameters()).device
        numbers = [ANY if target is None else target for _, target in pairs]
        self.targets = torch.tensor(numbers, dtype=torch.int64, device=device)
        self.gauges = Gauges([*self.limits, *self.weights], perceptual)
        self.optimizer = torch.optim.Adam(change.trained(), lr=lr, betas=(0.5, 0.9))

    def step(self, model: nn.Module, images: Tensor, labels: Tensor) -> Step:
        """Move every row once.

        Args:
            model: used in evaluation mode; neither its weights nor their gradients change.
            images: (R, B, C, H, W) in [0, 1], the rows' own images; detached.
            labels: int64 (R, B), their true classes.
        """
        trained = self.change.trained()
        with torch.enable_grad(), evaluating(model):
            shown = _all(images, labels)
            changed = self.change(images)
            logits = folded(model(changed.flatten(0, 1)).float(), *changed.shape[:2])
            result = led(logits, labels, self.targets)
            measured = self.gauges(self.change, None, shown, images, changed)
            towards = result.loss.mean(1)
            loss = towards + excess(measured, self.limits)
            for name, weight in self.weights.items():
                loss = loss + weight * measured[name] / UNITS[name]
            # Gradients of the change alone: what the training step gathers is left alone.
            slopes = torch.autograd.grad(loss.sum(), trained, allow_unused=True)
        for parameter, slope in zip(trained, slopes, strict=True):
            parameter.grad = slope
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return Step(
            success=result.hits.mean(1),
            loss=towards.detach(),
            measures={name: value.detach() for name, value in measured.items()},
        )

    @torch.no_grad()
    def changed(self, images: Tensor) -> Tensor:
        """Images (R, B, C, H, W) under the rows' changes, to be trained on with true labels."""
        changed: Tensor = self.change(images)
        return changed


def _all(images: Tensor, labels: Tensor) -> Shown:
    rows = torch.arange(len(images), device=images.device)
    return Shown(images, rows, labels, torch.ones_like(labels, dtype=images.dtype))
