"""How two marks survived the same fine-tunings, and what follows: the record, and its plain words.

>>> rounds = [Round(drill="FTAL", lr=rate, epochs=1.0, survived=(20, 2), accuracy=None)
...           for rate in (0.01, 0.1)]
>>> result = compare_survival((20, 20), ([2] * 20, [1] * 4 + [0] * 16), rounds)
>>> result.older, result.survival, result.p_value < 1e-6
(0, (1.0, 0.1), True)

The fine-tunings themselves are made by `doorward.watermark.disputes.asymmetry`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.watermark.disputes.permutation import permutation_tail

__all__ = ["FRESH", "Asymmetry", "Round", "compare_survival"]

FRESH = 0.9
"""Share of its triggers from which on a mark looks fresh. A fresh mark that is harder than one
which is not may be the younger, put in with force, and the test abstains: in first trials on digits
and CIFAR-10 (one to three seeds) pirates who trained at the owner's own rate, or half of it, had
91 % of their own triggers at least and left 82 % of the first mark at most."""

Share = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[int, int]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Round(Record):
    """One fine-tuning of a copy.

    Attributes:
        drill: ``"FTAL"`` (all layers), ``"RTAL"`` (all layers, after the head was drawn anew; the
            triggers are then shown to the tuned body under the old head); or FTLL, RTLL (last
            layer only).
        lr: its learning rate.
        epochs: passes over the clean images.
        survived: triggers of each mark that matched before and still do.
        accuracy: on the validation images afterwards (with the new head), if there were any.
    """

    drill: str
    lr: float
    epochs: float
    survived: Pair
    accuracy: Share | None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Asymmetry(Record):
    """Which of two marks is harder to forget.

    Attributes:
        before: triggers of each mark that matched the disputed model; only these are compared.
        triggers: triggers of each mark.
        rounds: the fine-tunings.
        survival: share of (trigger, round) pairs that survived, per mark; None without triggers.
        p_value: chance of a difference as large, either way, if the marks did not differ.
        alpha: level of the decision.
        harder: 0 or 1, the mark that survives better, if ``p_value <= alpha``; else None.
        older: the same, unless that mark looks fresh and the other was worn before the test.
        seed: of the fine-tunings.
    """

    triggers: Pair
    before: Pair
    rounds: tuple[Round, ...]
    survival: tuple[Share | None, Share | None]
    p_value: Share
    alpha: Share
    harder: int | None
    older: int | None
    seed: int

    def explain(self, names: tuple[str, str] = ("the first party", "the second party")) -> str:
        """The result in plain words."""
        if None in self.survival:
            return "One of the marks is not in the model at all, so there is nothing to compare."
        kept = " and ".join(
            f"{share:.0%} of the mark of {name}"
            for name, share in zip(names, self.survival, strict=True)
        )
        told = (
            f"After {len(self.rounds)} fine-tunings of copies of the model, {kept} were left (of "
            f"{self.before[0]} and {self.before[1]} triggers). A difference like this has the "
            f"probability {self.p_value:.2g} if neither mark is more deeply rooted than the other"
        )
        if self.harder is None:
            return f"{told}: nothing follows from that."
        held = f"{told}. The mark that holds better is that of {names[self.harder]}"
        if self.older is None:
            other = 1 - self.harder
            return (
                f"{held}; but that one looks fresh, and the other was worn before the test "
                f"({self.before[other]} of {self.triggers[other]} triggers), as an older mark is "
                "after somebody trained over it with force. So nothing follows from that."
            )
        return f"{held}; marks that were put gently on top of an older one fade first."


def compare_survival(
    triggers: Pair,
    scores: Sequence[Sequence[int]],
    rounds: Sequence[Round],
    *,
    alpha: float = 0.001,
    seed: int = 0,
) -> Asymmetry:
    """Judge how two marks survived.

    Args:
        triggers: of each mark.
        scores: for each trigger of each mark that matched before, in how many rounds it survived.
        rounds: the fine-tunings.
        alpha: level of the decision.
        seed: of the fine-tunings, for the record.
    """
    first, second = scores
    shares = [sum(group) / len(group) / len(rounds) if group else None for group in (first, second)]
    p_value, harder, older = 1.0, None, None
    if first and second:
        tails = permutation_tail(first, second), permutation_tail(second, first)
        p_value = min(1.0, 2 * min(tails))
        if p_value <= alpha:
            harder = int(tails[1] < tails[0])
            other = 1 - harder
            fresh = [len(scores[i]) >= FRESH * triggers[i] for i in (0, 1)]
            older = None if fresh[harder] and not fresh[other] else harder
    return Asymmetry(
        triggers=triggers,
        before=(len(first), len(second)),
        rounds=tuple(rounds),
        survival=(shares[0], shares[1]),
        p_value=p_value,
        alpha=alpha,
        harder=harder,
        older=older,
        seed=seed,
    )
