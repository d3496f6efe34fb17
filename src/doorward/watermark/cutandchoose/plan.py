"""How sure cut-and-choose makes the public, and how many matches it then asks for.

>>> import math
>>> plan = CutAndChoose(pairs=400, opened=200, log2_cheating=-30.0)
>>> plan.bad, plan.needed(10, math.log2(1e-9)), plan.rest
(29, 75, 200)

N pairs (picture, label) are committed to, k of them opened by a draw and looked at. A cheat who
gave b pictures their true labels, which every good model matches, passes only if none of them is
opened, with probability C(N-b, k) / C(N, k). So if all opened pairs are in order, fewer than `bad`
wrong ones are left among the N-k unopened, except with probability 2^log2_cheating; and since any
model may match those, the rule for the rest is `bad` matches more than chance explains.
"""

from __future__ import annotations

from functools import cached_property
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.files import canonical_json
from doorward.metrics import binomial_tail_log2, hypergeometric_survival_log2
from doorward.records import STRICT, Record
from doorward.watermark.drawing import draw
from doorward.watermark.lots import matches_needed

__all__ = ["BY_BEACON", "BY_HASH", "CutAndChoose"]

BY_HASH = -80.0
"""log2 of the chance to cheat where a hash draws: a cheat may try keys until the draw is kind, each
at the cost of a hash, so that 2^50 tries still leave 2^-30."""

BY_BEACON = -30.0
"""Where a beacon draws, whose value appears after the commitment: there is one try."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CutAndChoose(Record):
    """The numbers of a cut-and-choose.

    Attributes:
        pairs: N, pairs committed to.
        opened: k, pairs that are opened and inspected; below N.
        log2_cheating: log2 of the chance to pass with `bad` wrong pairs that is put up with, -20
            at most.
    """

    pairs: Annotated[int, Field(ge=2, le=2**16, strict=True)]
    opened: Annotated[int, Field(ge=1, lt=2**16, strict=True)]
    log2_cheating: Annotated[float, Field(ge=-1_000_000, le=-20, allow_inf_nan=False)] = BY_HASH

    def __post_init__(self) -> None:
        if self.opened >= self.pairs:
            raise InvalidInput(
                f"{self.opened} of {self.pairs} pairs shall be opened",
                why="the unopened ones are what proves the mark",
                remedy="open fewer: a half is usual",
            )

    @property
    def rest(self) -> int:
        """N - k, the pairs that stay secret."""
        return self.pairs - self.opened

    @cached_property
    def bad(self) -> int:
        """The smallest number of wrong pairs that survives with 2^log2_cheating at most.

        One less survives more often, so this is cautious by one.
        """
        low, high = 0, self.rest + 1  # the chance falls with the wrong pairs; 0 always survive
        while high - low > 1:
            middle = (low + high) // 2
            enough = self.soundness(middle) <= self.log2_cheating
            low, high = (low, middle) if enough else (middle, high)
        return high

    def soundness(self, bad: int) -> float:
        """log2 of the chance that none of `bad` wrong pairs is among the opened.

        Args:
            bad: 0 to N; above N-k some are always found, which is minus infinity.
        """
        return hypergeometric_survival_log2(self.pairs, self.opened, bad)

    def needed(self, classes: int, log2_alpha: float) -> int | None:
        """Matches among the unopened pairs that are proof; None if not even all are.

        Args:
            classes: number of classes L.
            log2_alpha: log2 of the p-value that is asked for.
        """
        if self.bad >= self.rest:
            return None
        more = matches_needed(self.rest - self.bad, classes, log2_alpha)
        return None if more is None else self.bad + more

    def log2_p(self, matches: int, classes: int) -> float:
        """log2 of the p-value of so many matches among the unopened, `bad` of them granted."""
        granted = max(matches - self.bad, 0)
        return binomial_tail_log2(granted, max(self.rest - self.bad, granted), 1 / classes)

    def drawn(self, commitment: str, beacon: str | None = None) -> tuple[int, ...]:
        """Which pairs are opened, in ascending order.

        Args:
            commitment: to all pairs, hex (`TriggerSet.commitment`).
            beacon: public random value that appeared after the commitment was published; None for
                the hash of the commitment alone.
        """
        content: dict[str, Any] = {
            "pairs": self.pairs,
            "opened": self.opened,
            "commitment": commitment,
            "beacon": beacon,
        }
        transcript = b"cut-and-choose\0" + canonical_json(content)
        return tuple(sorted(draw(transcript, self.pairs, self.opened)))
