"""Batch normalisation of all rows by the statistics of some: PyTorch's kernels, our gradient.

>>> rows, ones = torch.tensor([[0.0], [4.0], [10.0]]), torch.ones(1)
>>> output, mean, variance = normalise_by_rows(rows, ones, 0 * ones, torch.tensor([0, 1]), 0.0)
>>> output.flatten().tolist(), mean.item(), variance.item()
([-1.0, 1.0, 4.0], 2.0, 4.0)

It moves one tensor more through memory than ordinary BatchNorm, in the backward pass, and that is
all that it costs; what a marked step takes beside a plain one is in ``watermark-functionality``.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["along_channels", "normalise_by_rows"]

_PIECE = 1 << 19  # bytes: two of them fit into the second-level cache of a core


def normalise_by_rows(
    images: Tensor, weight: Tensor, bias: Tensor, rows: Tensor | slice, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Normalise all rows with mean and variance of some of them.

    Args:
        images: float (N, C, ...), any number of further dimensions.
        weight: (C,), float32, or float64 for such images.
        bias: likewise.
        rows: which ones the statistics come from, one or more: int64 (M,), or a slice, which
            saves copying them.
        eps: added to the variance.

    Returns:
        The normalised images in their own dtype, through which gradients flow, and mean and
        biased variance (C,) without gradient. It can be differentiated once.
    """
    result = _NormaliseByRows.apply(images, weight, bias, rows, eps)  # type: ignore[no-untyped-call]
    return cast(tuple[Tensor, Tensor, Tensor], result)


def along_channels(vector: Tensor, images: Tensor) -> Tensor:
    """A vector (C,) in the shape that broadcasts over (N, C, ...)."""
    return vector.view((1, -1) + (1,) * (images.ndim - 2))


class _NormaliseByRows(torch.autograd.Function):
    """Once forward, once backward.

    With x' = (x - m) / s, g the gradient of the output, and M values behind the statistics:
    dx = weight / s * (g - clean * (sum(g) + x' sum(g x')) / M), sums over *all* rows.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, rows: Tensor | slice, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        chosen = images[rows]
        mean, variance = _statistics(chosen, weight.dtype)
        output = torch.native_batch_norm(images, weight, bias, mean, variance, False, 0.0, eps)[0]
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.rows, ctx.count, ctx.eps = rows, len(chosen), eps
        ctx.mark_non_differentiable(mean, variance)
        return output, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance = ctx.saved_tensors
        given, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, weight, mean, variance, None, None, False, ctx.eps, [True] * 3
        )
        if ctx.needs_input_grad[0]:
            inverse = torch.rsqrt(variance + ctx.eps)
            share = weight * inverse / (ctx.count * images[0, 0].numel())
            slope = share * inverse * by_weight
            _subtract_line(given, images, ctx.rows, slope, share * by_bias - slope * mean)
        return given, by_weight, by_bias, None, None


def _statistics(rows: Tensor, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean and biased variance per channel of (N, C, ...), in `kind`."""
    # Running statistics that are not used: their dtype is that of the result.
    zeros, ones = (rows.new_full((rows.shape[1],), value, dtype=kind) for value in (0.0, 1.0))
    mean, variance = torch.ops.aten.batch_norm_update_stats(rows, zeros, ones, 0.0)
    return mean, variance


def _subtract_line(
    given: Tensor, images: Tensor, rows: Tensor | slice, slope: Tensor, level: Tensor
) -> None:
    """Take ``slope * images + level`` (per channel) off some rows of `given`."""
    zeros, ones = torch.zeros_like(slope), torch.ones_like(slope)

    def line(part: Tensor) -> Tensor:
        return torch.native_batch_norm(part, slope, level, zeros, ones, False, 0.0, 0.0)[0]

    if isinstance(rows, Tensor):
        given.index_add_(0, rows, line(images[rows]), alpha=-1)
        return
    # Piece by piece on a CPU: what is computed is then subtracted while it is in the cache.
    size = images[0].numel() * images.element_size()
    step = max(1, _PIECE // size) if images.device.type == "cpu" else len(images)
    pieces = zip(torch.split(given[rows], step), torch.split(images[rows], step), strict=True)
    for target, part in pieces:
        target.sub_(line(part))
