"""How much a dispute opens: the triggers of a key in lots, and what one lot must show.

>>> rule = Disclosure(size=20, log2_alpha=-40.0)
>>> rule.lots(200), list(rule.members(3))[:4], rule.needed(200, classes=10)
(10, [60, 61, 62, 63], 17)

A dispute shows one lot: triggers ``lot * size`` to ``(lot + 1) * size - 1``. Nothing would be
gained by shuffling first: every image and label hangs on the Merkle root, so an owner who
rearranged the secrets would have other triggers altogether.

What the cut is good for: whatever somebody tries in a dispute (invented earlier disputes, another
copy of the suspect, a beacon waited for), they can only ever come out at one of ``n // size`` lots,
which the claim fixed. So each is held to the claim's level divided by the number of lots
(Bonferroni), and the chance that *any* of them speaks against an innocent model is at most the
claim's level. In the example, 17 of 20 matches have p = 8.5e-15, and ten times that is below 2^-40.

What it does not cover, and the level (2^-40, usually) has to absorb: keys, or claims on one key,
that the owner tried, and models that the owner tried them on; each multiplies the chance.

The size is a bargain, made once for the life of the claim: small lots last for more disputes,
large ones still prove a mark that an attack has weakened (of a model with 10 classes, 20 triggers
ask for 17 matches and 50 for 26).
"""

from __future__ import annotations

import math
from typing import Annotated, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.metrics import binomial_tail_log2
from doorward.records import STRICT, Record

__all__ = ["LOG2_ALPHA", "WEAKEST", "Disclosure", "matches_needed"]

WEAKEST = -20
"""Weakest rule of a claim, as log2: who makes the claim also drew the key, and could draw thousands
until one satisfies a weaker rule by chance."""

LOG2_ALPHA = -40.0
"""Level of a claim's openings, unless the owner says otherwise."""

_USUAL_SIZE, _STEP, _TOLERATED = 20, 5, 0.15


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Disclosure(Record):
    """The part of a claim that governs openings.

    Attributes:
        size: triggers that one dispute shows.
        log2_alpha: log2 of the level for all lots together, at most -20.
    """

    size: Annotated[int, Field(ge=1, le=2**16, strict=True)] = _USUAL_SIZE
    log2_alpha: Annotated[float, Field(ge=-1_000_000, le=WEAKEST, allow_inf_nan=False)] = LOG2_ALPHA

    @classmethod
    def fitting(cls, n: int, classes: int, log2_alpha: float = LOG2_ALPHA) -> Self | None:
        """The rule for a key whose owner does not choose: 20 triggers, more where classes are few.

        Args:
            n: triggers of the key.
            classes: number of classes L.
            log2_alpha: log2 of the level for all lots together.

        Returns:
            The smallest lots, of at least 20, of which 15 % may miss; None if the key is too small.

        >>> Disclosure.fitting(100, 10).size, Disclosure.fitting(200, 2).size
        (20, 100)
        >>> Disclosure.fitting(10, 10) is None
        True
        """
        for size in range(_USUAL_SIZE, n + 1, _STEP):
            rule = cls(size=size, log2_alpha=log2_alpha)
            needed = rule.needed(n, classes)
            if needed is not None and needed <= (1 - _TOLERATED) * size:
                return rule
        return None

    def lots(self, n: int) -> int:
        """How many lots `n` triggers give; what is left over is never opened."""
        return n // self.size

    def members(self, lot: int) -> range:
        """Indices of a lot's triggers."""
        return range(lot * self.size, (lot + 1) * self.size)

    def level(self, n: int, log2_alpha: float | None = None) -> float:
        """log2 of the level that each lot is held to.

        Args:
            n: triggers of the key, at least `size`.
            log2_alpha: a level for all lots together that takes the place of the claim's own.
        """
        return (self.log2_alpha if log2_alpha is None else log2_alpha) - math.log2(self.lots(n))

    def needed(self, n: int, classes: int, log2_alpha: float | None = None) -> int | None:
        """Matches in one lot that are proof; None if not even all are (arguments as `level`)."""
        return matches_needed(self.size, classes, self.level(n, log2_alpha))


def matches_needed(trials: int, classes: int, log2_alpha: float) -> int | None:
    """The smallest number of matches whose p-value is at most 2^log2_alpha; None if none is.

    Args:
        trials: triggers asked.
        classes: number of classes L; by chance one in L matches.
        log2_alpha: log2 of the level, which may lie below what floats hold.

    >>> matches_needed(100, 10, -64), matches_needed(20, 10, -64), matches_needed(19, 10, -64)
    (46, 20, None)
    """

    def enough(matches: int) -> bool:
        return binomial_tail_log2(matches, trials, 1 / classes) <= log2_alpha

    if not enough(trials):
        return None
    low, high = 0, trials  # the tail falls with the matches: 0 are never enough, all are
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
