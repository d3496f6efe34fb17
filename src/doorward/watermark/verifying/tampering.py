"""Hostile copies of a claim and its transcript: is every one of them refused?

>>> from doorward.watermark.verifying.courtroom import Courtroom
>>> result = attack(Courtroom.example(), count=60)
>>> result.tried, result.accepted
(60, 0)

Three kinds of enemies. *Outsiders* change the files: bits, lengths, single values, the order of
questions and answers, or they sign a changed copy with a key of their own. *Litigants* show genuine
files in the wrong place: with another claim, owner, verifier, key or suspect. And a *lying
verifier* signs counts, rules, orders and answers that are not what happened; these lies are found
by whoever has the key and the model. (Not to be found by anybody, and not tried here: a verifier's
false date, or a rate of questions that was not kept.)
"""

from __future__ import annotations

import random
from collections import Counter

from pydantic.dataclasses import dataclass

from doorward.bundles.documents import parse_object
from doorward.errors import BadFile, DoorwardError, InvalidInput
from doorward.randomness import derive_seed
from doorward.records import STRICT, Record
from doorward.watermark.verifying import lies as _lies  # noqa: F401 - files more forgeries
from doorward.watermark.verifying.courtroom import Courtroom, Forgery
from doorward.watermark.verifying.forgeries import FORGERIES

__all__ = ["TamperResult", "attack"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TamperResult(Record):
    """What became of the forgeries.

    Attributes:
        tried: how many were made; each differs from the genuine papers, or in whose they are.
        accepted: how many passed.
        kinds: how many of each kind were tried.
        slipped: the kinds of those that passed.
    """

    tried: int
    accepted: int
    kinds: dict[str, int]
    slipped: tuple[str, ...]


def attack(court: Courtroom, count: int = 1000, *, seed: int = 0) -> TamperResult:
    """Show forgeries to a court, all kinds in turn.

    Args:
        court: genuine papers, and the court that has key and model.
        count: how many forgeries.
        seed: decides what is forged how.

    Returns:
        How many were tried and accepted.

    Raises:
        InvalidInput: not even the genuine papers are accepted.
        Exception: a forgery made the check break down, instead of being refused; which is a fault.
    """
    genuine = court.genuine()
    try:
        court.check(genuine)
    except DoorwardError as error:
        raise InvalidInput("the genuine papers are refused", why=str(error)) from error
    names, slipped = list(FORGERIES), []
    for number in range(count):
        name = names[number % len(names)]
        draws = random.Random(derive_seed(seed, "tampering", number))
        forged = FORGERIES[name](court, draws)
        while _same(forged, genuine):  # 1e-9 and 1E-9, say: nothing was changed
            forged = FORGERIES[name](court, draws)
        try:
            court.check(forged)
        except DoorwardError:
            continue
        slipped.append(name)
    kinds = Counter(names[number % len(names)] for number in range(count))
    return TamperResult(
        tried=count, accepted=len(slipped), kinds=dict(kinds), slipped=tuple(slipped)
    )


def _same(forged: Forgery, genuine: Forgery) -> bool:
    """Whether two sets of papers say the same to the same court."""
    if forged.instead:
        return False
    try:
        return all(
            parse_object(one, "") == parse_object(other, "")
            for one, other in (
                (forged.claim, genuine.claim),
                (forged.transcript, genuine.transcript),
            )
        )
    except BadFile:
        return False
