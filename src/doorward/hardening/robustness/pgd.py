"""Projected gradient descent: the strongest small disturbance of each image that slopes lead to.

>>> from torch import nn
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
>>> x, y = torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0])
>>> draw = torch.Generator().manual_seed(0)
>>> moved = pgd_images(model, x, y, bound=0.1, steps=2, step_size=0.1, draw=draw)
>>> bool(((moved - x).abs() <= 0.1 + 1e-6).all()), bool((moved >= 0).all() and (moved <= 1).all())
(True, True)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.models.modes import evaluating

__all__ = ["pgd_images"]


def pgd_images(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    steps: int,
    step_size: float,
    draw: torch.Generator,
) -> Tensor:
    """Images that a model errs on, within a bound of every pixel (Madry et al. 2018).

    Args:
        model: differentiable; used in evaluation mode, and left as it was.
        images: (N, C, H, W) in [0, 1].
        labels: int64 (N,), to be led away from.
        bound: largest change of a pixel.
        steps: sign-gradient ascents of the cross-entropy.
        step_size: of each.
        draw: on the CPU; where within the bound the ascent begins.

    Returns:
        (N, C, H, W) in [0, 1], detached.
    """
    noise = torch.rand(images.shape, generator=draw).to(images) * 2 - 1
    moved = (images + bound * noise).clamp(0, 1)
    low, high = (images - bound).clamp_min(0), (images + bound).clamp_max(1)
    with torch.enable_grad(), evaluating(model):
        for _ in range(steps):
            moved = moved.detach().requires_grad_(True)
            # Summed, not averaged: the slope of an image must not vanish in a large batch.
            loss = F.cross_entropy(model(moved).float(), labels, reduction="sum")
            (slope,) = torch.autograd.grad(loss, moved)
            moved = (moved + step_size * slope.sign()).maximum(low).minimum(high)
    return moved.detach()
