"""Square Attack: random search without a single gradient, which no masked gradient can mislead.

>>> from torch import nn
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
>>> x, y = torch.rand(5, 1, 8, 8), torch.zeros(5, dtype=torch.int64)
>>> draw = torch.Generator().manual_seed(0)
>>> moved = square_images(model, x, y, bound=0.1, queries=10, draw=draw)
>>> bool(((moved - x).abs() <= 0.1 + 1e-6).all())
True
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from doorward.models.modes import evaluating

__all__ = ["square_images"]

FIRST_SHARE = 0.8
HALVED_AT = (0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8)
"""Shares of the queries at which squares are halved: the authors' schedule over 10,000 queries."""


@torch.no_grad()
def square_images(
    model: nn.Module | Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    bound: float,
    queries: int,
    draw: torch.Generator,
) -> Tensor:
    """Images that a model errs on, found by random squares at the edge of the bound.

    After Andriushchenko et al. (2020): stripes to begin with, then at each query one square of an
    image is set to plus or minus the bound in every channel, and kept if the margin of the true
    class falls. Simplified: images that are led astray go on being asked about, all in one batch.

    Args:
        model: only its logits are used; a module is put in evaluation mode and left as it was.
        images: (N, C, H, W) in [0, 1].
        labels: int64 (N,), to be led away from.
        bound: largest change of a pixel.
        queries: for each image, at least 1.
        draw: on the CPU.

    Returns:
        (N, C, H, W) in [0, 1].
    """
    if isinstance(model, nn.Module):
        with evaluating(model):
            return _searched(model, images, labels, bound, queries, draw)
    return _searched(model, images, labels, bound, queries, draw)


def _searched(
    answer: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    bound: float,
    queries: int,
    draw: torch.Generator,
) -> Tensor:
    count, channels, height, width = images.shape
    stripes = _signs((count, channels, 1, width), draw).to(images)
    best = (images + bound * stripes).clamp(0, 1)
    margin = _margin(answer(best), labels)
    rows, columns = torch.arange(height)[:, None], torch.arange(width)[None, :]
    for query in range(1, queries):
        side = _side(query / queries, height, width)
        top = torch.randint(height - side + 1, (count, 1, 1), generator=draw)
        left = torch.randint(width - side + 1, (count, 1, 1), generator=draw)
        inside = (rows >= top) & (rows < top + side) & (columns >= left) & (columns < left + side)
        signs = _signs((count, channels, 1, 1), draw).to(images)
        there = inside[:, None].to(images.device)
        tried = torch.where(there, (images + bound * signs).clamp(0, 1), best)
        now = _margin(answer(tried), labels)
        better = now < margin
        best = torch.where(better[:, None, None, None], tried, best)
        margin = torch.where(better, now, margin)
    return best


def _side(progress: float, height: int, width: int) -> int:
    """Side of the square at a share of the queries, in pixels."""
    halvings = sum(progress > edge for edge in HALVED_AT)
    area = FIRST_SHARE / 2**halvings * height * width
    return max(1, min(round(math.sqrt(area)), height, width))


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """By how much the true class leads; negative where the model errs."""
    logits = logits.float()
    at = logits.gather(1, labels[:, None])[:, 0]
    rest = logits.scatter(1, labels[:, None], -torch.inf)
    return at - rest.amax(1)


def _signs(shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
    return torch.randint(2, shape, generator=draw) * 2.0 - 1
