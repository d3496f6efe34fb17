"""The judge's side of a dispute: is the suspect marked with what the owner opened?

>>> from doorward.watermark.disclosure.opening import disclose
>>> opening = disclose(key, claim, challenge, ada, ledger)  # doctest: +SKIP
>>> verify_opening(claim, challenge, opening, suspect, public=ada.public)  # doctest: +SKIP

`doorward.watermark.disclosure` shows a dispute from beginning to end.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from typing import Any

from doorward.bundles import open_black_box
from doorward.bundles.identity import PublicIdentity
from doorward.errors import IntegrityError, InvalidInput
from doorward.metrics import binomial_tail, binomial_tail_log2, clopper_pearson
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure.challenge import Challenge, rule_of
from doorward.watermark.disclosure.opening import Opening
from doorward.watermark.disclosure.suspects import suspect_id
from doorward.watermark.verdict import CONFIDENCE, Verdict
from doorward.watermark.verification import count_matches

__all__ = ["verify_opening"]

File = str | os.PathLike[str]


def verify_opening(
    claim: Claim | File,
    challenge: Challenge | File,
    opening: Opening | File,
    suspect: Any,
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    name: str | None = None,
    trust_factory: bool = False,
) -> Verdict:
    """Decide a dispute from the triggers that were opened for it.

    Checked are the claim's signature, that the challenge is about the claim and this very suspect,
    and all that `Opening.reveal` checks. Then the suspect is asked for the labels of the opened
    triggers, and the claim's rule for openings decides.

    Args:
        claim: the claim, or its file.
        challenge: the judge's challenge, or its file.
        opening: the owner's answer, or its file.
        suspect: as in `verify`; the one that the challenge names.
        public: the owner's public identity, from a source that you trust.
        alpha: the judge's own level for all lots of the claim together, in (0, 1); of it and the
            claim's, the stricter decides.
        name: the suspect's name, where the challenge names it so (see `suspect_id`).
        trust_factory: as `bundles.open_model`.

    Returns:
        The verdict. Its p-value is that of the opened lot; its level, the claim's for all lots
        together divided by their number.

    Raises:
        IntegrityError: claim, challenge, opening and suspect do not belong together, or one of them
            was changed.
        InvalidInput: the claim allows no openings, the rule can never be met, or the suspect takes
            images of another shape.
        BadFile: a file is not what it should be.
        ModelUnsuitable, EndpointFailed: as `verify`.
    """
    claim = claim if isinstance(claim, Claim) else Claim.load(claim)
    challenge = challenge if isinstance(challenge, Challenge) else Challenge.load(challenge)
    opening = opening if isinstance(opening, Opening) else Opening.load(opening)
    claim.check(public)
    level, needed = _level(claim, alpha)
    revealed = opening.reveal(claim, challenge, public)
    found = suspect_id(suspect, name=name, trust_factory=trust_factory)
    if found != challenge.suspect:
        raise IntegrityError(
            "the challenge names another suspect",
            why=f"it is about {challenge.suspect:.100}, not {found:.100}",
            remedy="give the model that was accused, or draw a new challenge",
        )
    box = open_black_box(suspect, trust_factory=trust_factory)
    matches = count_matches(revealed, box)
    classes, size = revealed.classes, revealed.n
    log2_p = binomial_tail_log2(matches, size, 1 / classes)
    verified = log2_p <= level
    return Verdict(
        verified=verified,
        commitment_opened=True,
        reason=_reason(verified, challenge),
        root=claim.statement.root,
        matches=matches,
        n=size,
        needed=needed,
        classes=classes,
        p_value=binomial_tail(matches, size, 1 / classes),
        log2_p=log2_p,
        interval=clopper_pearson(matches, size, CONFIDENCE),
        log2_alpha=level,
        owner=public.name,
        fingerprint=public.fingerprint,
        claimed=claim.created,
        verified_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        suspect=box.describe(),
    )


def _level(claim: Claim, alpha: float | None) -> tuple[float, int]:
    """log2 of the level for one lot, and the matches that it asks for."""
    rule, statement = rule_of(claim), claim.statement
    if alpha is not None and not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    strict = rule.log2_alpha if alpha is None else min(rule.log2_alpha, math.log2(alpha))
    needed = rule.needed(statement.n, statement.classes, strict)
    if needed is None:
        raise InvalidInput(
            "the rule can never be met",
            why=f"{rule.size} triggers, one of {rule.lots(statement.n)} lots, do not reach "
            f"2^{strict:.4g}",
            remedy="ask the owner for a proof with the whole key",
        )
    return rule.level(statement.n, strict), needed


def _reason(verified: bool, challenge: Challenge) -> str:
    found = (
        "Chance does not explain this: whoever made the model used the key's secret labels, or a "
        "model that was taught them."
        if verified
        else "Chance explains this too well: these triggers do not prove the mark."
    )
    return (
        f"{found} The pictures are {challenge.size} of the claim's {challenge.n}: lot "
        f"{challenge.lot} of {challenge.lots}, drawn by a hash of claim, suspect and the public "
        f"value {challenge.beacon:.80}. The rule is divided by {challenge.lots}, so that it holds "
        "even if the owner had chosen among the lots. It is that of one suspect: divide it again "
        "by the number of models that the owner tried."
    )
