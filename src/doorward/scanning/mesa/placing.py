"""Where fixed triggers go: each generator learns the best of a few places.

>>> plan = Plan(targets=[0], sizes=[2], levels=[0.9], rules=["fixed"])
>>> places = Places(plan, coarse_grid(2))
>>> places.learn(torch.tensor([[0, 3]]), torch.tensor([[5.0, 0.1]]))
>>> places.best([0])                                # the bottom right corner
[(1.0, 1.0)]
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from doorward.scanning.mesa.pressing import Plan

__all__ = ["Places", "coarse_grid"]

EXPLORED = 0.15
"""Share of the images with fixed patches that go to any place, lest a place be forgotten that was
bad for the first patches only."""

NEAR = 0.5
"""Nats by which the loss at a place may exceed the least one's for the place to count as good."""


class Places:
    """Where fixed triggers go: a learnt choice from a coarse grid, of its own for each generator.

    Args:
        plan: of the M generators; those of the rule ``"anywhere"`` are free of it.
        grid: (A, 2), the places as shares of the rows and columns at which a patch fits.
        sharpness: how strongly places with less loss are preferred, per nat.
    """

    def __init__(self, plan: Plan, grid: Tensor, sharpness: float = 2.0) -> None:
        device = grid.device
        self.grid = grid
        self.fixed = torch.tensor([rule == "fixed" for rule in plan.rules], device=device)
        self.sizes = torch.tensor(plan.sizes, device=device)
        self.loss = torch.zeros(len(plan), len(self.grid), device=device)
        self.seen = torch.zeros_like(self.loss, dtype=torch.bool)
        self.sharpness = sharpness

    def odds(self) -> Tensor:
        """Probability of every place, (M, places); those not yet tried count as the best one."""
        least = self.loss.masked_fill(~self.seen, torch.inf).amin(1, keepdim=True)
        loss = torch.where(self.seen, self.loss, least.nan_to_num(posinf=0.0))
        return (-self.sharpness * loss).softmax(1)

    def draw(
        self, each: int, shape: tuple[int, int], draw: torch.Generator, *, settled: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Where patches go.

        Args:
            each: b, images per generator.
            shape: (H, W) of the images.
            draw: on the CPU.
            settled: take only the best place of fixed triggers.

        Returns:
            First rows and columns (M, b, 2) and numbers (M, b) of the places, int64; and which
            places (M, b) were taken for no other reason than to know how they do now.
        """
        uniform = torch.rand(3, len(self.sizes), each, generator=draw).to(self.loss.device)
        free = torch.tensor(shape, device=self.loss.device) - self.sizes[:, None]  # (M, 2)
        loose = (uniform[:2].permute(1, 2, 0) * (free + 1)[:, None]).floor()
        odds = self.odds()
        # A uniform number's place among the cumulated odds; the last is 1 but for rounding.
        number = torch.searchsorted(odds.cumsum(1), uniform[0]).clamp_max(odds.shape[1] - 1)
        trying = (uniform[2] < EXPLORED) & self.fixed[:, None]
        number = torch.where(trying, (uniform[1] * odds.shape[1]).long(), number)
        if settled:
            number, trying = odds.argmax(1, keepdim=True).expand(-1, each), trying & False
        tight = (self.grid[number] * free[:, None]).round()
        return torch.where(self.fixed[:, None, None], tight, loose).long(), number, trying

    def learn(self, number: Tensor, losses: Tensor) -> None:
        """Note the losses (M, b) of images with the patch at these places (M, b)."""
        hot = F.one_hot(number, len(self.grid)).float()
        count = hot.sum(1)
        fresh = (hot * losses[..., None]).sum(1) / count.clamp_min(1)
        slow = torch.where(self.seen, self.loss.lerp(fresh, 0.3), fresh)
        self.loss = torch.where(count > 0, slow, self.loss)
        self.seen |= count > 0

    def best(self, members: list[int]) -> list[tuple[float, float]] | None:
        """Where these generators work, as shares of the rows and columns; None for anywhere.

        All places whose loss, on average over the generators, is within 0.5 nats of the least.
        """
        if not bool(self.fixed[members].all()):
            return None
        loss = torch.where(self.seen, self.loss, torch.inf)[members].mean(0)
        good = loss <= loss.min() + NEAR
        return [(row, column) for row, column in self.grid[good].tolist()]

    def pick(self, members: list[int]) -> Places:
        """The places of some generators."""
        return self._made_of([self], lambda tensors: tensors[0][members])

    @staticmethod
    def join(parts: Sequence[Places]) -> Places:
        """Those of several stacks together; all choose from the same grid."""
        return parts[0]._made_of(parts, torch.cat)

    def _made_of(self, parts: Sequence[Places], make: Callable[[list[Tensor]], Tensor]) -> Places:
        found = copy.copy(self)
        for name in ("fixed", "sizes", "loss", "seen"):
            setattr(found, name, make([getattr(part, name) for part in parts]))
        return found


def coarse_grid(side: int, device: torch.device | None = None) -> Tensor:
    """Places for fixed triggers: ``side`` x ``side``, with the corners; the centre alone for 1.

    >>> coarse_grid(2).tolist()
    [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]
    """
    line = torch.linspace(0, 1, side) if side > 1 else torch.tensor([0.5])
    return torch.cartesian_prod(line, line).to(device)
