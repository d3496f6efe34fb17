"""Does a transcript contradict itself, or the claim? What is checked before any trigger is known.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.examination import examine
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> transcript = examine(claim, key, innocent, public=ada.public).sign(judge)
>>> case, asked = case_of(transcript.record, claim, ada.public)
>>> require_consistent(transcript, case, asked)
>>> len(asked), rule_again(transcript.record, case).matches == transcript.record.verdict.matches
(40, True)
"""

from __future__ import annotations

import hmac
import math
from collections.abc import Sequence
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.errors import IntegrityError
from doorward.watermark.claim import Claim
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.ruling import Case
from doorward.watermark.verifying.transcript import Proceedings, Transcript

__all__ = ["case_of", "lot_level", "require", "require_consistent", "rule_again"]


def require(condition: bool, what: str, why: str = "") -> None:
    """Raise an `IntegrityError` of these words unless `condition` holds."""
    if not condition:
        raise IntegrityError(what, why=why, remedy="do not trust it")


def lot_level(claim: Claim, indices: Sequence[int]) -> float | None:
    """log2 of the level for triggers that are a lot of the claim's rule for disputes, else None."""
    rule, n = claim.statement.disclosure, claim.statement.n
    if rule is None or not any(
        tuple(sorted(indices)) == tuple(rule.members(lot)) for lot in range(rule.lots(n))
    ):
        return None
    return rule.level(n)


def case_of(
    record: Proceedings, claim: Claim, public: PublicIdentity
) -> tuple[Case, tuple[int, ...]]:
    """The claim as the verifier judged it, and the numbers of the triggers that were asked about.

    Raises:
        IntegrityError: the transcript is about another claim, about triggers that somebody picked,
            or judged by a weaker rule.
    """
    require(
        hmac.compare_digest(record.claim, claim.digest()),
        "the transcript is about another claim",
        f"it names the claim {record.claim[:16]}, this is {claim.digest()[:16]}",
    )
    level: float | None = claim.statement.log2_alpha
    asked = tuple(range(claim.statement.n))
    if record.triggers is not None:
        asked, level = record.triggers, lot_level(claim, record.triggers)
    if level is None or list(asked) != sorted(asked):
        raise IntegrityError(
            "the transcript is about triggers that were picked",
            why="they are no lot of the claim's rule for disputes",
            remedy="do not trust it",
        )
    require(
        record.verdict.log2_alpha <= level,
        "the verdict is by a weaker rule than the claim's",
        f"2^{record.verdict.log2_alpha:.4g} instead of 2^{level:.4g}",
    )
    return Case(claim, public, record.verdict.log2_alpha), asked


def require_consistent(transcript: Transcript, case: Case, asked: Sequence[int]) -> None:
    """Check lengths, counts, times, and that the verdict follows from its counts.

    Raises:
        IntegrityError: something contradicts something else.
    """
    record, verdict = transcript.record, transcript.record.verdict
    length = record.plan.questions(len(asked))
    require(
        len(record.queries) == len(record.answers) == length == len(set(record.queries)),
        "the questions are not those of the plan",
        f"{length} different ones are planned; there are {len(set(record.queries))}, "
        f"and {len(record.answers)} answers",
    )
    require(
        record.began <= verdict.verified_at <= transcript.created,
        "the times of the transcript are out of order",
    )
    require(
        _behaviour_fits(record, len(asked)),
        "the counts of questions and refusals contradict each other",
    )
    require(
        verdict.matches is not None
        and verdict.n == len(asked)
        and 0 <= verdict.unanswered <= verdict.n
        and 0 <= verdict.matches <= verdict.n - verdict.unanswered,
        "the counts of the verdict are impossible",
    )
    wrong = _differences(rule_again(record, case), verdict)
    require(not wrong, "the verdict does not follow from its counts", f"wrong: {wrong}")


def rule_again(
    record: Proceedings,
    case: Case,
    *,
    n: int | None = None,
    matches: int | None = None,
    unanswered: int | None = None,
) -> Verdict:
    """The verdict over the counts that the transcript states, or over others."""
    stated = record.verdict
    return case.judge(
        (stated.matches or 0) if matches is None else matches,
        stated.unanswered if unanswered is None else unanswered,
        n=stated.n if n is None else n,
        at=stated.verified_at,
        suspect=stated.suspect,
        behaviour=stated.behaviour,
    )


def _behaviour_fits(record: Proceedings, n: int) -> bool:
    seen, covers = record.verdict.behaviour, record.plan.covers(n)
    kind = None if not covers else "images" if record.covers else "look-alikes"
    return (
        seen is not None
        and (seen.triggers_asked, seen.covers_asked, seen.covers) == (n, covers, kind)
        and seen.triggers_refused <= record.verdict.unanswered
        and seen.triggers_refused + seen.covers_refused <= record.answers.count(None)
    )


def _differences(again: Verdict, stated: Verdict) -> str:
    """Names of the fields in which two verdicts differ beyond rounding; `reason` is only words."""
    fields = again.to_dict()
    return ", ".join(
        name
        for name, value in stated.to_dict().items()
        if name != "reason" and not _close(fields[name], value)
    )


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)  # SciPy's versions differ in last digits
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return all(map(_close, one, other))
    return type(one) is type(other) and bool(one == other)
