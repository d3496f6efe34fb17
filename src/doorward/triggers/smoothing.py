"""Gaussian blur of pictures of any size, as a matrix for the rows and one for the columns.

>>> dot = torch.zeros(1, 1, 5, 5); dot[..., 2, 2] = 1
>>> blurred(dot, 1.0)[0, 0, 2]
tensor([0.0215, 0.0965, 0.1592, 0.0965, 0.0215])
>>> float(blurred(torch.ones(1, 1, 5, 5), 1.0, edge="black").max()) < 1
True

For the small pictures and wide blurs that triggers need, two products of matrices are faster than
a convolution, and differentiable as they are.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["blurred"]


def blurred(images: Tensor, sigma: float, *, edge: str = "nearest") -> Tensor:
    """Images smoothed by a Gaussian.

    Args:
        images: float (..., H, W).
        sigma: standard deviation in pixels, at least 0; 0 changes nothing. The Gaussian is cut
            off at four of them.
        edge: what lies beyond the edge: "nearest" (the edge's own pixels go on) or "black".

    Returns:
        Images of the same shape, dtype and device.
    """
    if sigma <= 0:
        return images
    height, width = images.shape[-2:]
    rows = _smoother(height, sigma, edge).to(images)
    columns = rows if height == width else _smoother(width, sigma, edge).to(images)
    return rows @ images @ columns.T


def _smoother(side: int, sigma: float, edge: str) -> Tensor:
    """The matrix (side, side) that smooths a line of pixels."""
    reach = math.ceil(4 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64)
    weights = torch.exp(-0.5 * (steps / sigma) ** 2)
    weights = (weights / weights.sum()).expand(side, -1)
    source = torch.arange(side)[:, None] + steps.long()
    if edge == "black":
        weights = weights * ((source >= 0) & (source < side))
    matrix = torch.zeros(side, side, dtype=torch.float64)
    return matrix.scatter_add_(1, source.clamp(0, side - 1), weights)
