"""The judge's second look: triggers that shine through natural images, by rules nobody can choose.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.data import load
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> carriers = load("digits").resized(16).sample(20, seed=0)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> found = examine_blended(
...     make_claim(key, ada, alpha=1e-9), key, innocent, public=ada.public, carriers=carriers)
>>> found.verified, found.answers.queries
(False, 656)

`examine` asks about the triggers alone, `examine_blended` (ours) blends each into natural images.
A mark that fine-tuning has almost washed out often still shows there, and a service that refuses
abstract pictures is shown none. How many images and how faint is fixed here for everybody, and the
p-value is doubled, as it is the better of two looks that would be shown; so neither side can search
for the setting that suits it.
"""

from __future__ import annotations

import hmac
import os
from typing import Any

from pydantic.dataclasses import dataclass

from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageData
from doorward.records import STRICT, Record
from doorward.watermark.blended import BlendedAnswers, ask_blended
from doorward.watermark.claim import Claim
from doorward.watermark.key import WatermarkKey
from doorward.watermark.verdict import in_words
from doorward.watermark.verifying.ruling import stricter

__all__ = ["LOOKS", "OPACITY", "PER_TRIGGER", "BlendedVerdict", "examine_blended"]

PER_TRIGGER, OPACITY = 16, 0.7
LOOKS = 2
"""Triggers alone, and triggers in images: every p-value counts so many times."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlendedVerdict(Record):
    """What `examine_blended` found.

    Attributes:
        verified: the mark is proven by the claim's own rule.
        commitment_opened: the key is the one that the claim committed to. If not, the suspect was
            not asked, and what follows is None.
        answers: votes, score and the p-value of this look by itself.
        log2_p: log2 of the p-value times `LOOKS`, at most 0.
        log2_alpha: the rule: verified if ``log2_p <= log2_alpha``.
        owner: name of the claim's signer.
        fingerprint: of the signer's identity.
        carriers: name of the natural images.
        seed: of their choice.
    """

    verified: bool
    commitment_opened: bool
    answers: BlendedAnswers | None
    log2_p: float | None
    log2_alpha: float
    owner: str
    fingerprint: str
    carriers: str
    seed: int

    def explain(self) -> str:
        """The verdict in plain words."""
        if self.answers is None or self.log2_p is None:
            return (
                "NOT VERIFIED. The key does not open the claim's commitment. The suspect model "
                "was not asked anything, because its answers could prove nothing."
            )
        head = "VERIFIED" if self.verified else "NOT VERIFIED"
        n = len(self.answers.labels)
        return (
            f"{head}. {self.owner} committed to {n} abstract pictures and a secret label for each. "
            f"Each was laid over {self.answers.per_trigger} images of {self.carriers} at "
            f"{self.answers.opacity:.0%} opacity. Compared with what it says of those images by "
            f"themselves, the suspect model leans to the secret labels by {self.answers.score} of "
            f"{n * self.answers.per_trigger} answers. So much by chance has the probability "
            f"{in_words(self.log2_p)}, counted {LOOKS} times because the pictures may have been "
            f"asked about alone, too; the rule asks for {in_words(self.log2_alpha)} or less."
        )


def examine_blended(
    claim: Claim | str | os.PathLike[str],
    key: WatermarkKey,
    suspect: Any,
    *,
    public: PublicIdentity,
    carriers: ImageData,
    alpha: float | None = None,
    seed: int = 0,
) -> BlendedVerdict:
    """Decide whether a suspect carries the claim's mark, from triggers blended into images.

    Null hypothesis and exactness as `ask_blended`. Carriers and seed are the verifier's choice, to
    be made before asking, and not the claimant's.

    Args:
        claim: the claim, or the path of its file.
        key: the opened key.
        suspect: as in `verify`.
        public: the owner's public identity, from a source that you trust.
        carriers: images of the suspect's task, at least 16, of the key's shape.
        alpha: your own level, in (0, 1); of it and the claim's, the stricter decides.
        seed: of the choice of carriers.

    Raises:
        IntegrityError, BadFile, ModelUnsuitable, InvalidInput, EndpointFailed: as `verify`.
    """
    if not isinstance(claim, Claim):
        claim = Claim.load(claim)
    claim.check(public)
    statement = claim.statement
    opened = key.parameters == statement.key and hmac.compare_digest(
        key.commitment(), statement.root
    )
    log2_alpha = stricter(statement.log2_alpha, alpha)
    answers = (
        ask_blended(key, suspect, carriers, per_trigger=PER_TRIGGER, opacity=OPACITY, seed=seed)
        if opened
        else None
    )
    log2_p = None if answers is None else min(0.0, answers.log2_p + LOOKS.bit_length() - 1)
    return BlendedVerdict(
        verified=log2_p is not None and log2_p <= log2_alpha,
        commitment_opened=opened,
        answers=answers,
        log2_p=log2_p,
        log2_alpha=log2_alpha,
        owner=claim.signer.name,
        fingerprint=claim.signer.fingerprint,
        carriers=carriers.name,
        seed=seed,
    )
