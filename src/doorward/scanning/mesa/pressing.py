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

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from doorward.scanning.mesa.stamping import cut, paste

__all__ = ["Plan", "Pressed", "Rule", "foreign_rows", "press"]

Rule = Literal["anywhere", "fixed"]


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
