"""After the cut: look at the opened pairs, then ask a suspect about the unopened ones.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.adi import PaperKey, publish
>>> from doorward.watermark.cutandchoose.pairs import open_pairs
>>> from doorward.watermark.cutandchoose.plan import BY_BEACON, CutAndChoose
>>> ada = Identity.new("Ada")
>>> key = PaperKey.new(n=120, classes=10, image_shape=(1, 16, 16))
>>> vk, plan = publish(key, ada), CutAndChoose(pairs=120, opened=60, log2_cheating=BY_BEACON)
>>> opened = open_pairs(key, vk, ada, plan, beacon="8f2a51c0")
>>> inspect_pairs(vk, opened, public=ada.public, judge=[None] * 60).correct
()
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> verdict = verify_unopened(vk, key, opened, innocent, public=ada.public)
>>> verdict.verified, verdict.n, verdict.needed
(False, 60, 44)

Adi et al. (2018) propose to prove the matches of the unopened pairs in zero knowledge, without an
implementation; here a judge is shown the key, as in their private verification. What the cut is
good for then: whether labels are wrong was inspected by everybody, beforehand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.bundles.identity import PublicIdentity
from doorward.errors import InvalidInput
from doorward.metrics import clopper_pearson
from doorward.records import STRICT, Record
from doorward.watermark.adi.judge import Judge, correct_labels, true_labels
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.claim import Claim
from doorward.watermark.cutandchoose.pairs import Committed, OpenedPairs, require_same, root_of
from doorward.watermark.key import WatermarkKey
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verdict import CONFIDENCE, Verdict
from doorward.watermark.verification import count_matches

__all__ = ["LEVEL", "Inspection", "inspect_pairs", "verify_unopened"]

LEVEL = 1e-9
"""p-value asked for where the claim says nothing: the paper's verification keys do not."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Inspection(Record):
    """What a judge saw in the opened pairs.

    Attributes:
        inspected: pairs that were looked at.
        correct: numbers of those whose label is the true one; one is enough to reject the claim.
        bad: if there are none, fewer than so many are left among the unopened,
        soundness: except with this probability, as log2.
    """

    inspected: int
    correct: tuple[int, ...]
    bad: int
    soundness: float | None

    @property
    def accepted(self) -> bool:
        """Whether no label is the true one."""
        return not self.correct


def inspect_pairs(
    claim: Committed, opened: OpenedPairs, *, public: PublicIdentity, judge: Judge
) -> Inspection:
    """Check opened pairs, and compare their labels with what the pictures show.

    Args:
        claim: the claim, or the paper's verification key.
        opened: the opened pairs.
        public: the owner's public identity, from a source that you trust.
        judge: says the true classes of the opened pictures, in the order of their numbers; None,
            or undefined, for pictures that show no class.

    Raises:
        IntegrityError: the pairs are not those that were drawn and committed to.
        InvalidInput, MissingData, BadFile: the judge's answers cannot be read, or do not fit.
    """
    revealed = opened.reveal(claim, public)
    truth = true_labels(judge, revealed.images, claim.statement.key.classes)
    plan = opened.content.plan
    soundness = plan.soundness(plan.bad)
    return Inspection(
        inspected=len(revealed.indices),
        correct=tuple(revealed.indices[i] for i in correct_labels(truth, revealed.labels)),
        bad=plan.bad,
        soundness=soundness if math.isfinite(soundness) else None,
    )


def verify_unopened(
    claim: Committed,
    key: WatermarkKey | PaperKey,
    opened: OpenedPairs,
    suspect: Any,
    *,
    public: PublicIdentity,
    inspection: Inspection | None = None,
    alpha: float | None = None,
) -> Verdict:
    """Decide whether a suspect is marked, by the pairs that were not opened.

    As many matches as wrong pairs may have survived the cut are granted to any model; the others
    must not be explained by chance.

    Args:
        claim: the claim, or the paper's verification key.
        key: the opened key. Whoever verifies learns it.
        opened: the opened pairs, which are not asked about.
        suspect: as in `verify`.
        public: the owner's public identity, from a source that you trust.
        inspection: what `inspect_pairs` found; a claim that failed it is not verified.
        alpha: the p-value that is asked for, in (0, 1); by default the claim's, or `LEVEL`. Of it
            and the claim's, the stricter decides.

    Returns:
        The verdict. Its p-value is that of the matches beyond the granted ones. It rests on labels
        that are uniform, as they are in a `WatermarkKey`; of a `PaperKey` it is the owner who says
        so, and a cheat could choose pictures that fool every model in the same way.

    Raises:
        IntegrityError: claim and pairs do not belong together, or one of them was changed.
        InvalidInput: the key is another one, its labels were not drawn uniformly, or the level is
            out of range or reach.
        ModelUnsuitable, EndpointFailed: as `verify`.
    """
    indices = set(opened.reveal(claim, public).indices)
    require_same(key, claim)
    if isinstance(key, PaperKey) and key.law != "uniform":
        raise InvalidInput(
            "the labels of this key were given, not drawn",
            why="how many of them match by chance is not known",
            remedy="use a key with drawn labels, or verify all pairs (paper_verify)",
        )
    plan, classes = opened.content.plan, key.classes
    level = _level(claim, alpha)
    needed = plan.needed(classes, level)
    if needed is None:
        raise InvalidInput(
            "the rule can never be met",
            why=f"of {plan.rest} unopened pairs, {plan.bad} are granted; the rest do not reach "
            f"2^{level:.4g}",
            remedy="plan with more pairs (doorward watermark cut-and-choose shows the numbers), or "
            "draw by a beacon",
        )
    facts: dict[str, Any] = {
        "commitment_opened": True,
        "root": root_of(claim),
        "n": plan.rest,
        "needed": needed,
        "classes": classes,
        "log2_alpha": level,
        "owner": public.name,
        "fingerprint": public.fingerprint,
        "claimed": claim.created,
        "verified_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if inspection is not None and not inspection.accepted:
        reason = f"{len(inspection.correct)} opened pair(s) carry the true label: no backdoor."
        return Verdict(verified=False, reason=reason, **facts)
    box = open_black_box(suspect)
    matches = count_matches(_Part(key, [i for i in range(key.n) if i not in indices]), box)
    log2_p = plan.log2_p(matches, classes)
    return Verdict(
        verified=log2_p <= level,
        reason=_reason(log2_p <= level, opened),
        matches=matches,
        p_value=2.0**log2_p,
        log2_p=log2_p,
        interval=clopper_pearson(matches, plan.rest, CONFIDENCE),
        suspect=box.describe(),
        **facts,
    )


class _Part:
    """Some triggers of a key, as a `TriggerSet`."""

    def __init__(self, key: TriggerSet, indices: Sequence[int]) -> None:
        self._key, self._indices = key, torch.tensor(indices)
        self.n, self.classes, self.image_shape = len(indices), key.classes, key.image_shape

    def triggers(self) -> tuple[Tensor, Tensor]:
        images, labels = self._key.triggers()
        return images[self._indices], labels[self._indices]

    def commitment(self) -> str:
        return self._key.commitment()


def _level(claim: Committed, alpha: float | None) -> float:
    if alpha is not None and not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    own = math.log2(LEVEL if alpha is None else alpha)
    if isinstance(claim, Claim):
        return claim.statement.log2_alpha if alpha is None else min(claim.statement.log2_alpha, own)
    return own


def _reason(verified: bool, opened: OpenedPairs) -> str:
    plan = opened.content.plan
    drawn = "the commitment's hash" if opened.content.beacon is None else "a public beacon"
    found = "Chance does not explain this." if verified else "Chance explains this too well."
    return (
        f"{found} These are the {plan.rest} pairs that were not opened; {plan.opened} of "
        f"{plan.pairs}, drawn by {drawn}, were opened to everybody. If all labels of those are "
        f"wrong, fewer than {plan.bad} true ones are left (but for a chance of "
        f"2^{plan.log2_cheating:.4g}), which any model may match: they are granted."
    )
