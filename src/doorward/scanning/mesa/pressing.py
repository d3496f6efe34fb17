"""One pass through the classifier for all generators: what their patches do, and which way to go.

>>> model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
>>> plan = Plan(targets=[0, 1], sizes=[2, 2], levels=[0.9, 0.9], rules=["anywhere", "anywhere"])
>>> patches, images = torch.rand(2, 3, 1, 2, 2), torch.rand(5, 1, 4, 4)
>>> rows, corners = torch.zeros(2, 3).long(), torch.zeros(2, 3, 2).long()
>>> done = press(model, images, patches, rows, corners, plan, batch_size=4, slope=True)
>>> done.chance.shape, done.slope.shape
(torch.Size([2, 3]), torch.Size([2, 3, 1, 2, 2]))

The generators' classes, sizes, levels and places may all differ. The stamped images are made and
classified in chunks, so that memory does not grow with the number of generators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.scanning.mesa.stamping import cut, paste

__all__ = ["Places", "Plan", "Pressed", "Rule", "coarse_grid", "foreign_rows", "press"]

Rule = Literal["anywhere", "fixed"]

EXPLORED = 0.15
"""Share of the images with fixed patches that go to any place, lest a place be forgotten that was
bad for the first patches only."""

NEAR = 0.5
"""Nats by which the loss at a place may exceed the least one's for the place to count as good."""


@dataclass(frozen=True)
class Plan:
    """What each generator of a stack is to find; all lists have its length M.

    Args:
        targets: the class.
        sizes: side of the patches.
        levels: probability of the class that a stamped image is to reach.
        rules: ``"anywhere"``: each image gets the patch at a random place. ``"fixed"``: at one of
            a few places, of which the search learns the best.
    """

    targets: list[int]
    sizes: list[int]
    levels: list[float]
    rules: list[Rule]

    def __len__(self) -> int:
        return len(self.targets)

    def append(self, target: int, size: int, level: float, rule: Rule) -> None:
        """Add a generator."""
        self.targets.append(target)
        self.sizes.append(size)
        self.levels.append(level)
        self.rules.append(rule)


class Pressed(NamedTuple):
    """What stamped images did, for M generators and b images each.

    Attributes:
        hinge: (M, b), ``max(0, log level - log P_c)``.
        chance: (M, b), P_c.
        hit: bool (M, b), whether c was the answer.
        slope: (M, b, C, S, S), the gradient of the sum of `hinge` with respect to the patches;
            zeros where it was not asked for.
    """

    hinge: Tensor
    chance: Tensor
    hit: Tensor
    slope: Tensor


def press(
    model: nn.Module,
    images: Tensor,
    patches: Tensor,
    rows: Tensor,
    corners: Tensor,
    plan: Plan,
    *,
    batch_size: int,
    slope: bool,
) -> Pressed:
    """Stamp and classify, in chunks.

    Args:
        model: frozen.
        images: (N, C, H, W).
        patches: (M, b, C, S, S) without a history; a generator of size s uses the top left s x s.
        rows: int64 (M, b), which image each patch goes on.
        corners: int64 (M, b, 2), the patch's first row and column.
        plan: of the M generators.
        batch_size: stamped images per pass through the model.
        slope: whether the gradient is wanted.
    """
    count, each = rows.shape
    device = images.device
    hinge, chance = torch.zeros(2, count, each, device=device)
    hit = torch.zeros(count, each, dtype=torch.bool, device=device)
    slopes = torch.zeros_like(patches)
    # One side at a time: windows of one shape are pasted and cut without masks.
    for size in sorted(set(plan.sizes)):
        members = [m for m, own in enumerate(plan.sizes) if own == size]
        chosen = torch.tensor(members, device=device)
        targets = torch.tensor([plan.targets[m] for m in members], device=device)
        bounds = torch.tensor([plan.levels[m] for m in members], device=device).log()
        flat = [
            patches[chosen, ..., :size, :size].flatten(0, 1),
            rows[chosen].flatten(),
            *corners[chosen].flatten(0, 1).unbind(1),
            targets.repeat_interleave(each),
            bounds.repeat_interleave(each),
        ]
        found: list[tuple[Tensor, ...]] = []
        for part in zip(*(torch.split(column, batch_size) for column in flat), strict=True):
            pieces, row, top, left, target, bound = part
            stamped = paste(images[row], pieces, top, left)
            with torch.set_grad_enabled(slope):
                logits = model(stamped.requires_grad_(slope)).float()
                log_chance = logits.log_softmax(1).gather(1, target[:, None])[:, 0]
                loss = (bound - log_chance).relu()
            if slope:
                (pull,) = torch.autograd.grad(loss.sum(), stamped)
                pieces = cut(pull, size, top, left)
            right = logits.detach().argmax(1) == target
            found.append((loss.detach(), log_chance.detach().exp(), right, pieces))
        parts = [torch.cat(column) for column in zip(*found, strict=True)]
        parts = [part.view(len(members), each, *part.shape[1:]) for part in parts]
        hinge[chosen], chance[chosen], hit[chosen] = parts[:3]
        if slope:
            slopes[chosen, ..., :size, :size] = parts[3].to(slopes.dtype)
    return Pressed(hinge, chance, hit, slopes)


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


def foreign_rows(
    labels: Tensor, targets: Tensor, each: int, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images of other classes than the target, for every generator.

    Args:
        labels: (N,).
        targets: (M,).
        each: b, how many are wanted; they repeat where there are fewer.
        draw: on the CPU.

    Returns:
        Their numbers, int64 (M, b), and 1.0 (M,) where there was any, else 0.0.
    """
    foreign = labels != targets[:, None]
    uniform = torch.rand(foreign.shape, generator=draw).to(labels.device)
    order = (uniform - foreign.float()).argsort(1)  # foreign ones first, each in random order
    count = foreign.sum(1, keepdim=True)
    position = torch.arange(each, device=labels.device) % count.clamp_min(1)
    return order.gather(1, position), (count[:, 0] > 0).float()
