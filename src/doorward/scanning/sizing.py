"""How small a class's trigger is: what its size weighs in a search, and how far it stands out.

>>> [round(s, 2) for s in smallness(torch.tensor([90.0, 100.0, 100.0, 110.0, 10.0]), 0.25)][-1]
9.21
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["SizeWeight", "smallness"]

FIRST_COST = 1e-3
PROGRESS = 0.99
"""A size below this share of the least one so far counts as progress."""


class SizeWeight:
    """The weight of each class's trigger size: raised after successes, lowered after failures.

    Wang et al. (2019), Neural Cleanse: after `patience` epochs of success in a row the weight is
    multiplied by `up`, after as many failures divided by `down`; a weight of 0 becomes 1e-3.

    Args:
        classes: K.
        device: of the weights.
        patience: epochs in a row.
        up: factor.
        down: divisor.
        start: first weight.
        stall: a class is settled once its weight has gone up and down and its smallest trigger has
            not shrunk by 1 % in so many epochs; None for never.

    Attributes:
        cost: (K,), the weights.
        settled: bool (K,).

    >>> weight = SizeWeight(1, torch.device("cpu"), patience=2, up=2.0, down=4.0)
    >>> for good in (True, True, True, True, False, False):
    ...     weight.update(torch.tensor([good]), torch.ones(1))
    ...     print(f"{weight.cost.item():g}", end=" ")
    0 0.001 0.001 0.002 0.002 0.0005
    """

    def __init__(
        self,
        classes: int,
        device: torch.device,
        *,
        patience: int,
        up: float,
        down: float,
        start: float = 0.0,
        stall: int | None = None,
    ) -> None:
        self.patience, self.up, self.down, self.stall = patience, up, down, stall
        self.cost = torch.full((classes,), start, device=device)
        self.run = torch.zeros(classes, device=device)  # successes in a row; failures below zero
        self.rose = torch.zeros(classes, dtype=torch.bool, device=device)
        self.fell, self.settled = self.rose.clone(), self.rose.clone()
        self.least = torch.full((classes,), torch.inf, device=device)
        self.idle = torch.zeros(classes, device=device)

    def update(self, good: Tensor, least: Tensor) -> None:
        """After an epoch.

        Args:
            good: bool (K,), whether the trigger succeeded.
            least: (K,), size of the smallest successful trigger so far; infinite for none.
        """
        self.run = torch.where(good, self.run.clamp_min(0) + 1, self.run.clamp_max(0) - 1)
        up, down = self.run >= self.patience, self.run <= -self.patience
        raised = torch.where(self.cost == 0, FIRST_COST, self.cost * self.up)
        self.cost = torch.where(up, raised, torch.where(down, self.cost / self.down, self.cost))
        self.run = torch.where(up | down, 0.0, self.run)
        self.rose, self.fell = self.rose | up, self.fell | down
        shrank = least < PROGRESS * self.least
        self.idle = torch.where(shrank, 0.0, self.idle + 1)
        self.least = torch.where(shrank, least, self.least)
        if self.stall is not None:
            stuck = (self.idle >= self.stall) & self.least.isfinite()
            self.settled = self.settled | (stuck & self.rose & self.fell)


def smallness(sizes: Tensor, least_spread: float) -> list[float]:
    """How far the logarithm of each class's size lies below the median, in robust deviations.

    ``(median - log size) / max(1.4826 * median of |log size - median|, least_spread)``. It is the
    anomaly index of Neural Cleanse with three changes of ours, which make it comparable between
    models: logarithms (sizes are ratios), a sign (large classes are not suspicious), and a least
    spread (ten sizes that happen to agree make no outlier of an eleventh that is a little less).

    Args:
        sizes: (K,), in pixels; below 1 they count as 1.
        least_spread: of the logarithms, above 0.

    >>> [round(s, 2) for s in smallness(torch.tensor([90.0, 100.0, 100.0, 110.0, 10.0]), 0.25)]
    [0.42, 0.0, 0.0, -0.38, 9.21]
    """
    logs = sizes.double().clamp_min(1).log()
    centre = logs.quantile(0.5)
    spread = 1.4826 * (logs - centre).abs().quantile(0.5)
    index: list[float] = ((centre - logs) / spread.clamp_min(least_spread)).tolist()
    return index
