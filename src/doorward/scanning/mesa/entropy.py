"""How large is a set of patches? Entropy from nearest neighbours, and what follows from it.

>>> square = torch.rand(1, 400, 2, generator=torch.Generator().manual_seed(0))
>>> abs(float(knn_entropy(square))) < 0.2           # of the unit square: log 1 = 0
True
>>> mixture_weights([0.0, -2.0], [0.5, 0.9])        # the wider level gets more samples
[0.902..., 0.097...]
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["knn_entropy", "mixture_weights"]

FLOOR = 1e-3
"""Distance in pixel values below which two points count as one: a quarter of a grey level."""


def knn_entropy(points: Tensor, *, k: int = 3, dimensions: Tensor | None = None) -> Tensor:
    """Differential entropy of the distributions that some points were drawn from, in nats.

    Kozachenko and Leonenko (1987): ``psi(b) - psi(k) + log V_d + d * mean log r_k``, where r_k is
    a point's distance to its k-th neighbour and V_d the volume of the d-dimensional unit ball.
    Differentiable. Distances are bounded from below by about 1e-3, so that a distribution that
    has collapsed to a point has a very low entropy instead of none.

    Args:
        points: (M, b, d), b points of each of M distributions.
        k: which neighbour, from 1 to b - 1; b - 1 if there are not so many.
        dimensions: (M,), where fewer than d coordinates vary and the others are constant.

    Returns:
        (M,).

    Raises:
        InvalidInput: there are fewer than two points, or k is no neighbour's number.
    """
    count = points.shape[1]
    if count < 2 or k < 1:
        raise InvalidInput(f"{count} points have no neighbour {k}", why="2 points are the least")
    k = min(k, count - 1)
    # Not by matrix products: differences of near points would drown in rounding.
    apart = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    nearest = apart.topk(k + 1, dim=2, largest=False).values[..., k]  # the first one is the point
    radius = 0.5 * (nearest.square() + FLOOR**2).log().mean(1)
    size = points.new_tensor(points.shape[2]) if dimensions is None else dimensions.to(points)
    ball = size / 2 * math.log(math.pi) - torch.lgamma(size / 2 + 1)
    digamma = torch.digamma(torch.tensor([float(count), float(k)], dtype=torch.float64))
    return float(digamma[0] - digamma[1]) + ball + size * radius


def mixture_weights(
    entropies: Sequence[float], levels: Sequence[float], *, even: float = 0.0
) -> list[float]:
    """How often each generator of a staircase is drawn from.

    Qiao et al. (2019): component i is uniform on the set of triggers that reach level i, so its
    weight is proportional to the density's step there times the set's volume, ``exp(h_i)``. (The
    paper has ``exp(h_i)`` alone, for equal steps; its code ignores both.) Generators of the same
    level share its weight in proportion to their volumes.

    Args:
        entropies: h of each generator, in nats.
        levels: the level of each, in (0, 1]. A level's step is its distance to the next lower one.
        even: share of the weight that is spread evenly instead, in [0, 1]: in many dimensions
            volumes differ by many orders of magnitude, and an unlearner wants to see all levels.

    Returns:
        Weights that sum to 1.

    Raises:
        InvalidInput: the lists are empty or of different lengths, or a value is out of range.
    """
    if not entropies or len(entropies) != len(levels):
        raise InvalidInput(f"there are {len(entropies)} entropies and {len(levels)} levels")
    if not (0 <= even <= 1 and all(0 < level <= 1 for level in levels)):
        raise InvalidInput(f"even={even} or a level of {list(levels)} is out of range")
    stairs = [0.0, *sorted(set(levels))]
    steps = [level - stairs[stairs.index(level) - 1] for level in levels]
    shared = [list(levels).count(level) for level in levels]
    volume = torch.tensor(entropies, dtype=torch.float64)
    odds = volume + torch.tensor(steps, dtype=torch.float64).log()
    odds = odds - torch.tensor(shared, dtype=torch.float64).log()
    weights: list[float] = (even / len(levels) + (1 - even) * odds.softmax(0)).tolist()
    return weights
