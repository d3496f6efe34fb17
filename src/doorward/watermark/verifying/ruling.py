"""From answers to a verdict: the rule that a verifier applies, and whoever checks it later.

>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=100, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> case = Case(make_claim(key, ada), ada.public)
>>> matches, unanswered = count([3] * 60 + [None] * 40, [3] * 50 + [5] * 50, classes=10)
>>> verdict = case.judge(matches, unanswered, n=100, at="2026-01-01T00:00:00Z")
>>> matches, unanswered, verdict.needed, verdict.verified
(50, 40, 35, True)

Null hypothesis: the labels are independent of the answers, so that each match has the chance 1/L. A
question without an answer is left out on both sides. That keeps the test exact, whatever the
suspect refuses: it sees images and never labels, and the labels of the rest stay uniform.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import binomial_tail, binomial_tail_log2, clopper_pearson
from doorward.watermark.behaviour import Behaviour
from doorward.watermark.claim import Claim
from doorward.watermark.lots import matches_needed
from doorward.watermark.verdict import CONFIDENCE, Verdict

__all__ = ["Case", "count", "require_classes", "stricter"]

_PROVEN = (
    "Chance does not explain this: whoever made the model used the key's secret labels, or a model "
    "that was taught them."
)
_NOT_PROVEN = "Chance explains this too well: the mark is not proven."
_TOO_FEW = "The suspect refused so many triggers that the rest prove nothing either way."


@dataclass(frozen=True)
class Case:
    """A claim before a judge.

    Attributes:
        claim: the claim; its signature has been checked.
        public: the owner's public identity.
        log2_alpha: the level, if it is not the claim's.
        lot: numbers of the triggers that are judged by the claim's rule for disputes; None for all
            triggers, by its rule for the whole key.
    """

    claim: Claim
    public: PublicIdentity
    log2_alpha: float | None = None
    lot: tuple[int, ...] | None = None

    @cached_property
    def level(self) -> float:
        """log2 of the level that decides."""
        return self.claim.statement.log2_alpha if self.log2_alpha is None else self.log2_alpha

    def require_possible(self, n: int) -> None:
        """Refuse, before anybody is asked, a level that `n` triggers do not reach.

        Raises:
            InvalidInput: it is out of reach.
        """
        if matches_needed(n, self.claim.statement.classes, self.level) is None:
            raise InvalidInput(
                "the rule can never be met",
                why=f"{n} triggers do not reach 2^{self.level:.4g}",
                remedy="ask the owner for a claim with more triggers",
            )

    def judge(
        self,
        matches: int,
        unanswered: int,
        *,
        n: int,
        at: str,
        suspect: dict[str, Any] | None = None,
        behaviour: Behaviour | None = None,
    ) -> Verdict:
        """The verdict over so many matches.

        Args:
            matches: answers that are the committed label.
            unanswered: triggers without a usable answer.
            n: triggers asked.
            at: the moment of the verdict.
            suspect: what the suspect said of itself.
            behaviour: what else was seen.
        """
        classes, answered = self.claim.statement.classes, n - unanswered
        needed = matches_needed(answered, classes, self.level)
        log2_p = binomial_tail_log2(matches, answered, 1 / classes)
        verified = log2_p <= self.level
        return Verdict(
            verified=verified,
            commitment_opened=True,
            reason=_PROVEN if verified else _TOO_FEW if needed is None else _NOT_PROVEN,
            matches=matches,
            n=n,
            unanswered=unanswered,
            needed=answered + 1 if needed is None else needed,
            p_value=binomial_tail(matches, answered, 1 / classes),
            log2_p=log2_p,
            interval=clopper_pearson(matches, answered, CONFIDENCE) if answered else (0.0, 1.0),
            suspect=suspect,
            behaviour=behaviour,
            **self._facts(at),
        )

    def wrong_key(self, at: str) -> Verdict:
        """The verdict over a key that does not open the claim's commitment."""
        statement = self.claim.statement
        return Verdict(
            verified=False,
            commitment_opened=False,
            reason="The key does not open this claim's commitment: it is another key.",
            n=statement.n,
            needed=statement.needed_at(self.level) or statement.n + 1,
            **self._facts(at),
        )

    def _facts(self, at: str) -> dict[str, Any]:
        return {
            "root": self.claim.statement.root,
            "classes": self.claim.statement.classes,
            "log2_alpha": self.level,
            "owner": self.public.name,
            "fingerprint": self.public.fingerprint,
            "claimed": self.claim.created,
            "beacon": self.claim.statement.key.beacon,
            "verified_at": at,
        }


def count(answers: Sequence[int | None], labels: Sequence[int], *, classes: int) -> tuple[int, int]:
    """How many answers match, and how many are missing.

    Args:
        answers: the suspect's, None where it gave none.
        labels: the committed ones.
        classes: number of classes L; an answer of L or more is no answer.

    >>> count([3, None, 12, 5], [3, 4, 2, 1], classes=10)
    (1, 2)
    """
    matches = sum(given == label for given, label in zip(answers, labels, strict=True))
    return matches, sum(given is None or given >= classes for given in answers)


def require_classes(answers: Sequence[int | None], classes: int) -> None:
    """Refuse a suspect of which no answer is a class of the key.

    Raises:
        ModelUnsuitable: so it is.
    """
    given = [answer for answer in answers if answer is not None]
    if given and min(given) >= classes:
        raise ModelUnsuitable(
            f"the suspect answered labels {min(given)} to {max(given)}",
            why=f"the key is for {classes} classes, numbered from 0",
            remedy="this key cannot have marked this model; compare the right ones",
        )


def stricter(log2_alpha: float, alpha: float | None) -> float:
    """log2 of the stricter of two levels.

    Args:
        log2_alpha: the claim's.
        alpha: the verifier's own, in (0, 1), if there is one.

    Raises:
        InvalidInput: `alpha` is no level.
    """
    if alpha is None:
        return log2_alpha
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    return min(log2_alpha, math.log2(alpha))
