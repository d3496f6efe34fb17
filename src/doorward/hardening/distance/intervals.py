"""Means with bootstrap intervals.

>>> estimate = bootstrap([1.0, 2.0, 3.0], seed=0)
>>> estimate.mean, estimate.low <= 2.0 <= estimate.high
(2.0, True)
>>> bootstrap([], seed=0).mean is None
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic.dataclasses import dataclass

from doorward.randomness import generator
from doorward.records import STRICT, Record

__all__ = ["Estimate", "bootstrap"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Estimate(Record):
    """A mean and its interval.

    Attributes:
        mean: None of nothing.
        low: 2.5 % quantile of the resampled means.
        high: 97.5 % quantile.
        count: how many values.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int


def bootstrap(values: Sequence[float], *, seed: int, resamples: int = 2000) -> Estimate:
    """The mean of values, and the percentile interval of means of as many, drawn with return.

    Pairs of classes share classes, so an interval over pairs says how much the mean hangs on
    single pairs, not what another model of the same kind would give.

    Args:
        values: finite.
        seed: of the draws.
        resamples: how many.
    """
    if not values:
        return Estimate(mean=None, low=None, high=None, count=0)
    column = torch.tensor(list(values), dtype=torch.float64)
    draw = generator(seed, "bootstrap")
    rows = torch.randint(len(column), (resamples, len(column)), generator=draw)
    low, high = column[rows].mean(1).quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    return Estimate(mean=float(column.mean()), low=low, high=high, count=len(column))
