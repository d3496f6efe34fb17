"""A dispute that opens a few triggers, with minutes: what `examine` is to a whole key.

>>> import pathlib, tempfile, torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.disclosure import BurnLedger, disclose, make_challenge
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.checking import check_transcript
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=60, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)
>>> rival = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> challenge = make_challenge(claim, "named:rival", beacon="8f2a51c0")
>>> ledger = BurnLedger(pathlib.Path(tempfile.mkdtemp()) / "mark.burned.json", key)
>>> opening = disclose(key, claim, challenge, ada, ledger)
>>> found = examine_opening(claim, challenge, opening, rival, public=ada.public, name="rival")
>>> found.verdict.verified, found.verdict.n
(False, 20)

The opening is public in the end, so that anybody can count again:

>>> known = {"public": ada.public, "verifier": judge.public, "opened": opening.answer.triggers}
>>> check_transcript(found.sign(judge), claim, **known) == found.verdict
True
"""

from __future__ import annotations

import os
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageSource
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure.challenge import Challenge, rule_of
from doorward.watermark.disclosure.opening import Opening
from doorward.watermark.verifying.history import History
from doorward.watermark.verifying.interrogation import Examination, interrogate
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.ruling import Case, stricter
from doorward.watermark.verifying.shown import Shown

__all__ = ["examine_opening"]


def examine_opening(
    claim: Claim,
    challenge: Challenge,
    opening: Opening,
    suspect: Any,
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
    resume: str | os.PathLike[str] | None = None,
    history: History | None = None,
    name: str | None = None,
    trust_factory: bool = False,
) -> Examination:
    """As `verify_opening`, with all questions and answers, which the judge can sign.

    Args:
        claim: the claim.
        challenge: the judge's own copy.
        opening: the owner's answer.
        suspect: as in `verify`; the one that the challenge names.
        public: the owner's public identity, from a source that you trust.
        alpha: the judge's own level for all lots of the claim together, in (0, 1).
        plan: as in `examine`.
        covers: as in `examine`.
        resume: as in `examine`.
        history: as in `examine`.
        name: the suspect's name, where the challenge names a function (see `suspect_id`).
        trust_factory: as `bundles.open_black_box`.

    Returns:
        The verdict over the opened lot, and what it rests on.

    Raises:
        IntegrityError: claim, challenge, opening and suspect do not belong together, or one of them
            was changed.
        InvalidInput: the claim allows no openings, or the rule can never be met.
        ModelUnsuitable, EndpointFailed, BadFile: as `verify`.
    """
    claim.check(public)
    rule, statement = rule_of(claim), claim.statement
    level = rule.level(statement.n, stricter(rule.log2_alpha, alpha))
    case = Case(claim, public, level, tuple(challenge.indices))
    case.require_possible(rule.size)
    opening.reveal(claim, challenge, public)
    shown = Shown.opened(statement.key, statement.root, opening.answer.triggers)
    return interrogate(
        case,
        shown,
        suspect,
        plan=plan,
        covers=covers,
        resume=resume,
        history=history,
        name=name,
        trust_factory=trust_factory,
        accused=challenge.suspect,
    )
