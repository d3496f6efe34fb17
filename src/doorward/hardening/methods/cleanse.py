"""Two baselines by Neural Cleanse: train on the patch of every target, or of every pair.

>>> from doorward.hardening import hardening
>>> hardening("nc-pairwise").first_steps
200
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.hardening.aims import Aims
from doorward.hardening.methods.base import file_hardening
from doorward.hardening.methods.inverting import Searching
from doorward.hardening.methods.moth import PATCHES
from doorward.hardening.methods.pairhardening import PairHardening
from doorward.hardening.methods.periods import Period, PeriodicObjective
from doorward.hardening.transforms import Patches
from doorward.records import STRICT
from doorward.removal.tuning import Count, NonNegative, Positive
from doorward.training.context import Context

__all__ = ["CleansePairwise", "CleanseUniversal"]

Norm = Literal["clean-only", "frozen", "train"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Cleanse(PairHardening):
    searching: Searching = PATCHES
    first_steps: Count = 200
    next_steps: Count = 50
    hard_share: Positive = 0.1
    consistency: NonNegative = 0.0
    batchnorm: Norm = "train"
    rows_at_once: Count = 2

    def rows(self, classes: list[int]) -> list[tuple[int | None, int | None]]:
        """Everything that is taken in turn."""
        return [(s, t) for s in classes for t in classes if s != t]

    def objective(self, model: nn.Module, work: ImageData, context: Context) -> TurnObjective:
        """The objective."""
        return TurnObjective(self, work, context)


@file_hardening(
    "nc-universal",
    paper="Wang et al. 2019, Neural Cleanse; baseline 'Universal' of Tao et al. 2022 (MOTH)",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class CleanseUniversal(_Cleanse):
    """Train on the patches that lead all classes to one, target after target.

    Args:
        rows_at_once: targets in one forward pass.

    All other fields are those of `PairHardening` and `Hardening`.
    """

    def rows(self, classes: list[int]) -> list[tuple[int | None, int | None]]:
        """The targets."""
        return [(None, target) for target in classes]


@file_hardening(
    "nc-pairwise",
    paper="Wang et al. 2019, Neural Cleanse; baseline 'Pairwise' of Tao et al. 2022 (MOTH)",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class CleansePairwise(_Cleanse):
    """Train on the patches between every two classes, pair after pair, none preferred.

    Args:
        rows_at_once: ordered pairs in one forward pass.

    All other fields are those of `PairHardening` and `Hardening`.
    """


class TurnObjective(PeriodicObjective):
    """Rows in turn, each searched anew."""

    def __init__(self, method: _Cleanse, work: ImageData, context: Context) -> None:
        super().__init__(method, work, context)
        self.turns, self.at_once = method.rows(self.images.present.tolist()), method.rows_at_once
        self.turn = 0

    def next(self) -> Period:
        """The next rows, round and round."""
        count = min(self.at_once, len(self.turns))
        places = [(self.turn + k) % len(self.turns) for k in range(count)]
        self.turn = (self.turn + count) % len(self.turns)
        aims = Aims.of([self.turns[place] for place in places], self.classes)
        change = Patches(len(aims), self.image_shape)
        change.start([self.draw("start", str(pair)) for pair in aims.pairs])
        return self.new_period(
            aims,
            change,
            first_steps=self.numbers.first_steps,
            length=self.numbers.period,
            family="patch",
        )

    def state_dict(self) -> dict[str, Any]:
        """Whose turn it is."""
        return {**super().state_dict(), "turn": self.turn}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        self.turn = int(state["turn"])
