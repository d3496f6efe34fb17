"""One verification from the claim to the verdict, with everything that was asked and answered.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> found = examine(claim, key, innocent, public=ada.public, plan=QueryPlan(cover_share=0.5))
>>> found.verdict.verified, found.verdict.n, found.verdict.behaviour.covers_asked
(False, 40, 40)

The verifier signs it, and others check it (`doorward.watermark.verifying.checking`):

>>> transcript = found.sign(judge)
>>> len(transcript.record.answers), transcript.record.verdict == found.verdict
(80, True)
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageSource
from doorward.watermark.claim import Claim
from doorward.watermark.key import WatermarkKey
from doorward.watermark.verifying.history import History
from doorward.watermark.verifying.interrogation import Examination, interrogate, now
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.ruling import Case, stricter
from doorward.watermark.verifying.shown import Shown

__all__ = ["examine"]


def examine(
    claim: Claim | str | os.PathLike[str],
    key: WatermarkKey,
    suspect: Any,
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
    resume: str | os.PathLike[str] | None = None,
    history: History | None = None,
    trust_factory: bool = False,
) -> Examination:
    """As `verify`, with all questions and answers, which a verifier can sign as a transcript.

    Args:
        claim: the claim, or the path of its file.
        key: the opened key.
        suspect: as in `verify`.
        public: the owner's public identity.
        alpha: your own level, in (0, 1).
        plan: what else is asked, and how fast.
        covers: images of the suspect's task for cover queries; by default look-alikes.
        resume: a file that keeps what was answered.
        history: the verifier's list of past verifications; this one is added.
        trust_factory: as `bundles.open_black_box`.

    Returns:
        The verdict, and what it rests on.

    Raises:
        IntegrityError, BadFile, ModelUnsuitable, InvalidInput, EndpointFailed: as `verify`.
    """
    if not isinstance(claim, Claim):
        claim = Claim.load(claim)
    claim.check(public)
    statement = claim.statement
    case = Case(claim, public, stricter(statement.log2_alpha, alpha))
    case.require_possible(statement.n)
    same_parameters = key.parameters == statement.key
    if not (same_parameters and hmac.compare_digest(key.commitment(), statement.root)):
        return Examination(verdict=case.wrong_key(now()))
    return interrogate(
        case,
        Shown.by(key),
        suspect,
        plan=plan,
        covers=covers,
        resume=resume,
        history=history,
        trust_factory=trust_factory,
    )
