"""Gradients as lists of tensors: made to agree, and handed back to the training loop.

>>> import torch
>>> first, second = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
>>> torch.cat(pcgrad([first, second]))         # each gives up what works against the other
tensor([0.5000, 1.5000])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["add", "agreement", "carried", "pcgrad", "yielding"]

Gradient = Sequence[Tensor | None]


def pcgrad(gradients: Sequence[Gradient]) -> list[Tensor | None]:
    """The sum of several gradients, each projected off the others that it conflicts with.

    Yu et al. 2020, *Gradient Surgery for Multi-Task Learning*: where ``g_i . g_j < 0``, g_i becomes
    ``g_i - (g_i . g_j / |g_j|^2) g_j``. Reproduced, with the original g_j in each projection; the
    order of j is as given instead of random, so that a run can be repeated.

    Args:
        gradients: one per task, each a tensor (or None for zero) per parameter.

    Returns:
        One tensor per parameter; None where no task has a gradient.

    Raises:
        InvalidInput: no gradients, or of different lengths.
    """
    if not gradients or len({len(gradient) for gradient in gradients}) > 1:
        raise InvalidInput("gradients of one length are needed, at least one")
    squares = [_dot(gradient, gradient) for gradient in gradients]
    projected: list[Gradient] = []
    for i, own in enumerate(gradients):
        kept: Gradient = own
        for j, other in enumerate(gradients):
            if i == j:
                continue
            # No branch on the sign: on a GPU that would wait for the device.
            share = _dot(kept, other).clamp(max=0) / squares[j].clamp(min=1e-30)
            kept = [_combined(a, b, -share) for a, b in zip(kept, other, strict=True)]
        projected.append(kept)
    total = projected[0]
    for gradient in projected[1:]:
        total = add(total, gradient)
    return list(total)


def yielding(wish: Gradient, to: Gradient, *, largest: float) -> list[Tensor | None]:
    """A gradient that gives way to another: projected off it in a conflict, and of bounded length.

    Args:
        wish: what would be good as well.
        to: what must not suffer.
        largest: length of the result, at most, in lengths of `to`.

    >>> torch.cat(yielding([torch.tensor([-3.0, 8.0])], [torch.tensor([1.0, 0.0])], largest=2.0))
    tensor([0., 2.])
    """
    square = _dot(to, to)
    share = _dot(wish, to).clamp(max=0) / square.clamp(min=1e-30)
    kept = [_combined(a, b, -share) for a, b in zip(wish, to, strict=True)]
    scale = (largest * (square / _dot(kept, kept).clamp(min=1e-30)).sqrt()).clamp(max=1)
    return [None if slope is None else slope * scale.to(slope) for slope in kept]


def add(first: Gradient, second: Gradient, weight: float = 1.0) -> list[Tensor | None]:
    """``first + weight * second``; None stands for zero."""
    scale = torch.tensor(weight)
    return [_combined(a, b, scale) for a, b in zip(first, second, strict=True)]


def agreement(first: Gradient, second: Gradient) -> Tensor:
    """Cosine between two gradients, a scalar in [-1, 1]."""
    length = (_dot(first, first) * _dot(second, second)).sqrt()
    return _dot(first, second) / length.clamp(min=1e-30)


def carried(value: Tensor, parameters: Sequence[Tensor], gradient: Gradient) -> Tensor:
    """A loss of this value whose gradient is this one.

    The training loop calls ``backward()`` on what an objective gives it; gradients that an
    objective has computed and changed itself reach the optimiser in this way.

    Args:
        value: scalar to report.
        parameters: leaves that require gradients.
        gradient: one tensor (or None) for each.

    >>> weight = torch.ones(2, requires_grad=True)
    >>> loss = carried(torch.tensor(7.0), [weight], [torch.tensor([1.0, -2.0])])
    >>> loss.backward()
    >>> loss.item(), weight.grad.tolist()
    (7.0, [1.0, -2.0])
    """
    carrier = _Carry.apply(value.detach(), tuple(gradient), *parameters)  # type: ignore[no-untyped-call]
    return cast(Tensor, carrier)


class _Carry(torch.autograd.Function):
    """The identity on its first argument, with given slopes in the parameters."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, gradient: tuple[Any, ...], *parameters: Tensor) -> Tensor:
        ctx.gradient = gradient
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Any, ...]:
        scaled = [None if g is None else g * slope.to(g.dtype) for g in ctx.gradient]
        return None, None, *scaled


def _dot(first: Gradient, second: Gradient) -> Tensor:
    parts = [
        (a.float() * b.float()).sum()
        for a, b in zip(first, second, strict=True)
        if a is not None and b is not None
    ]
    return torch.stack(parts).sum() if parts else torch.zeros(())


def _combined(a: Tensor | None, b: Tensor | None, weight: Tensor) -> Tensor | None:
    if b is None:
        return a
    scaled = b * weight.to(b)
    return scaled if a is None else a + scaled
