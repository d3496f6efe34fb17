"""The judge's side of a dispute: is the suspect marked with what the owner opened?

>>> from doorward.watermark.disclosure.opening import disclose
>>> opening = disclose(key, claim, challenge, ada, ledger)  # doctest: +SKIP
>>> verify_opening(claim, challenge, opening, suspect, public=ada.public)  # doctest: +SKIP

`doorward.watermark.disclosure` shows a dispute from beginning to end, and
`doorward.watermark.verifying.openings` the same with cover questions and minutes to sign.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure.challenge import Challenge
from doorward.watermark.disclosure.opening import Opening
from doorward.watermark.verdict import Verdict

__all__ = ["explain_lot", "verify_opening"]

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
    # Which builds on openings, and would otherwise be imported in the middle of importing them.
    from doorward.watermark.verifying.openings import examine_opening

    challenge = challenge if isinstance(challenge, Challenge) else Challenge.load(challenge)
    verdict = examine_opening(
        claim if isinstance(claim, Claim) else Claim.load(claim),
        challenge,
        opening if isinstance(opening, Opening) else Opening.load(opening),
        suspect,
        public=public,
        alpha=alpha,
        name=name,
        trust_factory=trust_factory,
    ).verdict
    return replace(verdict, reason=f"{verdict.reason} {explain_lot(challenge)}")


def explain_lot(challenge: Challenge) -> str:
    """Which pictures a dispute opens and what that does to the rule, for who reads a verdict."""
    return (
        f"The pictures are {challenge.size} of the claim's {challenge.n}: lot {challenge.lot} of "
        f"{challenge.lots}, drawn by a hash of claim, suspect and the public value "
        f"{challenge.beacon:.80}. The claim's level is divided by {challenge.lots}, so that it "
        "holds even if the owner had chosen among the lots. It is that of one suspect: divide it "
        "again by the number of models that the owner tried."
    )
