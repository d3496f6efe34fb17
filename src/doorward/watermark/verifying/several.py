"""Several tests, one error: p-values of many keys or many suspects, corrected together.

>>> from doorward.watermark.verdict import Verdict
>>> def verdict(log2_p):
...     return Verdict(
...         verified=log2_p <= -64, reason="", commitment_opened=True, root="0" * 64, matches=50,
...         n=100, needed=46, classes=10, p_value=0.0, log2_p=log2_p, interval=(0, 1),
...         log2_alpha=-64, owner="Ada", fingerprint="0" * 64, claimed="", verified_at="")
>>> verdicts = [verdict(-66.5), verdict(-1.0), verdict(-64.0), verdict(-80.0)]
>>> [round(entry.log2_p, 3) for entry in correct(verdicts)]
[-64.915, -1.0, -63.0, -78.0]

An owner who tries k keys on a suspect, or one key on k suspects, has k times the chance of a hit on
an innocent model. `correct` keeps the chance of *any* such hit at the level: by the procedure of
Holm (1979), which multiplies the i-th smallest of k p-values by k - i + 1, or by Bonferroni's,
which multiplies all by k. Neither needs the tests to be independent. All in logarithms to the base
2, as p-values of marks are smaller than any float.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.watermark.verdict import Verdict

__all__ = ["Corrected", "Method", "correct"]

Method = Literal["holm", "bonferroni"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Corrected(Record):
    """A verdict that takes the other tests into account.

    Attributes:
        verified: the mark is proven even so: ``log2_p <= log2_alpha``.
        log2_p: log2 of the corrected p-value; None where nothing was tested (a wrong key).
        log2_alpha: the level, as in the verdict.
        tests: how many tests were corrected for.
        method: "holm" or "bonferroni".
    """

    verified: bool
    log2_p: float | None
    log2_alpha: float
    tests: int
    method: Method


def correct(
    verdicts: Sequence[Verdict], *, method: Method = "holm", tests: int | None = None
) -> list[Corrected]:
    """Correct verdicts for their number.

    Args:
        verdicts: of all keys and suspects that were tried, not only of those that matched.
        method: "holm", which is never weaker, or "bonferroni".
        tests: how many tests there were, if more than are shown here (a verifier's history
            may know); every p-value is then corrected as if the others were 1.

    Returns:
        One entry per verdict, in the same order. If the levels differ, the chance of any false
        hit is at most the largest of them.

    Raises:
        InvalidInput: fewer `tests` than verdicts, or an unknown method.

    A verdict over a wrong key is no test: nobody was asked.
    """
    if method not in ("holm", "bonferroni"):
        raise InvalidInput(
            f"no correction is called {method!r}", remedy="choose holm or bonferroni"
        )
    tested = [(v.log2_p, place) for place, v in enumerate(verdicts) if v.log2_p is not None]
    count = len(tested) if tests is None else tests
    if count < len(tested):
        raise InvalidInput(f"{len(tested)} tests are more than the {count} that are said")
    corrected: dict[int, float] = {}
    largest = -math.inf
    for rank, (log2_p, place) in enumerate(sorted(tested)):
        factor = count - rank if method == "holm" else count
        largest = max(largest, min(0.0, log2_p + math.log2(factor)))  # never below a smaller one
        corrected[place] = largest
    return [
        Corrected(
            verified=corrected.get(place, 0.0) <= verdict.log2_alpha,
            log2_p=corrected.get(place),
            log2_alpha=verdict.log2_alpha,
            tests=count,
            method=method,
        )
        for place, verdict in enumerate(verdicts)
    ]
