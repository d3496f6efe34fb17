"""Losses and scalars of the steps, read from the device seldom and all at once.

A step only appends its detached tensors; `settle` brings all of them to the host in one copy,
adds them to the epoch's means, and notices a run that has gone wrong.

>>> import torch
>>> ledger = Ledger(divergence=100.0)
>>> ledger.add(0, 4, torch.tensor(2.0), {"accuracy": 0.5})
>>> ledger.add(1, 4, torch.tensor(1.0), {"accuracy": torch.tensor(1.0)})
>>> ledger.settle()
>>> ledger.means()
{'loss': 1.5, 'accuracy': 0.75}
>>> ledger.add(2, 4, torch.tensor(float("nan")), {})
>>> ledger.settle(); ledger.fault
Fault(step=2, loss=nan)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = ["Fault", "Ledger"]

SMOOTHING = 0.9


class Fault(NamedTuple):
    """The step at which the loss was found to be beyond repair, and the loss there."""

    step: int
    loss: float


class Ledger:
    """The account of one process.

    Args:
        divergence: how many times the larger of the first loss and 1 the smoothed loss may reach.

    Attributes:
        fault: set by `settle` at the first NaN, infinite or exploded loss.
        live: exponentially smoothed values by name, for the progress bar.
    """

    def __init__(self, divergence: float) -> None:
        self.divergence = divergence
        self.fault: Fault | None = None
        self.live: dict[str, float] = {}
        self._first: float | None = None
        self._sums: dict[str, list[float]] = {}  # name -> [sum over rows, rows]
        self._pending: list[tuple[int, int, dict[str, Tensor | float]]] = []

    def add(
        self, step: int, rows: int, loss: Tensor, scalars: Mapping[str, Tensor | float]
    ) -> None:
        """Note a step; nothing is read from the device."""
        # A scalar that is called "loss" must not stand in for the one that is judged.
        self._pending.append((step, rows, {"loss": loss} | dict(scalars) | {"loss": loss}))

    def __len__(self) -> int:
        """Steps that are noted and not settled yet."""
        return len(self._pending)

    def settle(self) -> None:
        """Read all noted values (one synchronisation) and take them in."""
        tensors = [
            value.detach().float().reshape(())
            for _, _, values in self._pending
            for value in values.values()
            if isinstance(value, Tensor)
        ]
        numbers = iter(torch.stack(tensors).tolist() if tensors else [])
        for step, rows, values in self._pending:
            for name, value in values.items():
                number = next(numbers) if isinstance(value, Tensor) else float(value)
                self._take(name, number, rows)
                if name == "loss":
                    self._judge(step, number)
        self._pending.clear()

    def means(self) -> dict[str, float]:
        """Means over the rows since the last `reset`, by name; NaN and infinity are left out."""
        means = {name: total / rows for name, (total, rows) in self._sums.items() if rows}
        return {name: mean for name, mean in means.items() if math.isfinite(mean)}

    def sums(self) -> dict[str, list[float]]:
        """The account behind `means`: name -> [sum over rows, rows]."""
        return {name: list(pair) for name, pair in self._sums.items()}

    def reset(self, sums: Mapping[str, list[float]] | None = None) -> None:
        """Begin a new account, or go on with a given one."""
        self._sums = {name: list(pair) for name, pair in (sums or {}).items()}

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to go on judging and smoothing (the sums are kept apart)."""
        return {"first": self._first, "live": dict(self.live)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        self._first, self.live = state["first"], dict(state["live"])

    def _take(self, name: str, number: float, rows: int) -> None:
        total = self._sums.setdefault(name, [0.0, 0.0])
        if math.isfinite(number):
            total[0] += number * rows
            total[1] += rows
            before = self.live.get(name, number)
            self.live[name] = SMOOTHING * before + (1 - SMOOTHING) * number

    def _judge(self, step: int, loss: float) -> None:
        if self._first is None:
            self._first = loss
        limit = self.divergence * max(abs(self._first), 1.0)
        if self.fault is None and (not math.isfinite(loss) or self.live["loss"] > limit):
            self.fault = Fault(step, loss)
