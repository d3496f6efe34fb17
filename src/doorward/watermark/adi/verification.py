"""Verify(mk, vk, M), as in section 2 of the paper, with the p-value it does not have.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.watermark.adi.key import PaperKey
>>> from doorward.watermark.adi.vk import publish
>>> ada = Identity.new("Ada")
>>> key = PaperKey.new(n=100, classes=10, image_shape=(1, 16, 16))
>>> vk = publish(key, ada)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> verdict = paper_verify(key, vk, innocent, public=ada.public, judge=[None] * 100)
>>> verdict.accepted, verdict.opened, verdict.needed
(False, 200, 90)

What the paper proves, and what it does not. Whoever fixes vk before the model exists is rejected
by any honest model (non-trivial ownership), on the assumption that models answer meaningless
pictures uniformly at random; that is false in detail, and not needed here: the labels are random,
and the p-value is exact for any fixed suspect. Who forges needs a second opening of a commitment.
But a false accuser who *chooses* pictures that fool every model passes all three steps; see
`doorward.watermark.verify` for keys that leave nothing to choose.
"""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from doorward.bundles import PublicIdentity, open_black_box
from doorward.errors import InvalidInput
from doorward.metrics import clopper_pearson
from doorward.watermark.adi.answers import ask
from doorward.watermark.adi.chance import chance_log2, none_log2
from doorward.watermark.adi.commitments import opens_label, opens_picture
from doorward.watermark.adi.judge import Judge, correct_labels, true_labels
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.adi.verdict import PaperVerdict
from doorward.watermark.adi.vk import PaperStatement, VerificationKey
from doorward.watermark.verdict import CONFIDENCE

__all__ = ["openings", "paper_verify"]


def paper_verify(
    key: PaperKey,
    vk: VerificationKey | str | os.PathLike[str],
    suspect: Any,
    *,
    public: PublicIdentity,
    judge: Judge | None = None,
    epsilon: float | None = None,
) -> PaperVerdict:
    """Decide by the paper's rule whether a suspect model carries a mark.

    1. Reject if a committed label is the true one (the judge's check of T_L(t) != f(t)).
    2. Reject unless all 2n commitments open.
    3. Accept if the suspect gives all but eps*n pictures the committed label.

    Beside this bit the verdict has the exact p-value. Labels that were drawn uniformly make the
    matches of any fixed model Binomial(n, 1/L). For given labels the chance is that of dealing
    them to the pictures in another order (see `chance`), which a model's preference for some
    classes cannot shrink. Where the judge knows true classes, the labels are known to be wrong
    there, so the p-value is divided by the chance of that, an upper bound of the conditional one.

    Args:
        key: the marking key. Whoever verifies learns it: the scheme is privately verifiable.
        vk: the verification key, or the path of its file.
        suspect: a module, a bundle's folder, an ``.onnx`` file, an ``http(s)://`` endpoint, a
            `BlackBox`, or any callable from float images ``(N, C, H, W)`` in ``[0, 1]`` to int64
            labels ``(N,)``. For a model whose head was exchanged see `old_head.with_head`.
        public: the owner's public identity, from a source that you trust.
        judge: says the true classes of the pictures. None skips step 1, and the verdict says so.
        epsilon: your own eps, in [0, 1/2); of it and the verification key's, the smaller decides.

    Returns:
        The verdict. If one of the first two steps fails, the suspect is not asked.

    Raises:
        IntegrityError: the verification key was changed, or is signed by somebody else.
        BadFile: its file is no verification key, or the judge's file no list of classes.
        InvalidInput: `epsilon` is out of range, the judge's answers do not fit, or the suspect
            takes images of another shape.
        ModelUnsuitable: the suspect has another number of classes, or answers nonsense.
        EndpointFailed: the endpoint does not answer.
    """
    if not isinstance(vk, VerificationKey):
        vk = VerificationKey.load(vk)
    vk.check(public)
    statement = vk.statement
    share = _smaller(statement.epsilon, epsilon)
    same = key.facts == statement.key
    images, labels = key.triggers()
    truth = None if judge is None or not same else true_labels(judge, images, key.classes)
    correct = None if truth is None else tuple(correct_labels(truth, labels))
    opened = openings(key, statement) if same else 0
    facts: dict[str, Any] = {
        "judged": 0 if truth is None else sum(entry is not None for entry in truth),
        "correct_labels": correct,
        "opened": opened,
        "n": statement.n,
        "needed": statement.needed(share),
        "epsilon": share,
        "classes": statement.key.classes,
        "law": statement.key.law,
        "commitment": statement.commitment(),
        "owner": public.name,
        "fingerprint": public.fingerprint,
        "claimed": vk.created,
        "verified_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if correct:
        some = f"{len(correct)} committed label(s) are the pictures' true ones"
        return PaperVerdict(accepted=False, reason=f"{some}: no backdoor.", **facts)
    if opened != 2 * statement.n:
        reason = "The marking key does not open this verification key's commitments."
        return PaperVerdict(accepted=False, reason=reason, **facts)
    box = open_black_box(suspect)
    answers = ask(key, box)
    matches = int((answers == labels).sum())
    accepted = matches >= facts["needed"]
    found = _evidence(statement, labels, answers, truth)
    verdict = PaperVerdict(
        accepted=accepted,
        reason="",
        matches=matches,
        interval=clopper_pearson(matches, statement.n, CONFIDENCE),
        best_constant=int(torch.bincount(labels).max()),
        suspect=box.describe(),
        **found,
        **facts,
    )
    return replace(verdict, reason=_reason(verdict))


def openings(key: PaperKey, statement: PaperStatement) -> int:
    """How many of the 2n commitments a marking key opens.

    Args:
        key: of as many pictures as the statement.
        statement: of a verification key.

    Returns:
        0 to 2n.
    """
    images, labels = key.triggers()
    seen = zip(statement.pictures, key.picture_salts, images, strict=True)
    hidden = zip(statement.labels, key.label_salts, labels.tolist(), strict=True)
    return sum(
        opens_picture(bytes.fromhex(entry), i, salt, image)
        for i, (entry, salt, image) in enumerate(seen)
    ) + sum(
        opens_label(bytes.fromhex(entry), i, salt, label)
        for i, (entry, salt, label) in enumerate(hidden)
    )


def _evidence(
    statement: PaperStatement, labels: Tensor, answers: Tensor, truth: list[int | None] | None
) -> dict[str, Any]:
    classes = statement.key.classes

    def log2_p(law: Any) -> float:
        passed = 0.0 if truth is None else none_log2(law, labels, truth, classes)
        return min(0.0, chance_log2(law, labels, answers, classes) - passed)

    declared = log2_p(statement.key.law)
    return {
        "p_value": 2.0**declared,
        "log2_p": declared,
        "log2_p_permutation": log2_p("shuffled"),
    }


def _reason(verdict: PaperVerdict) -> str:
    if not verdict.accepted:
        return "Too few answers are the committed ones: the mark is not proven."
    if not verdict.convincing:
        return "The paper's rule is met, but chance explains so many matches too well."
    if verdict.correct_labels is None:
        return "The mark is there, if the labels are wrong: a judge has yet to look."
    return "All three checks passed, and chance does not explain it."


def _smaller(declared: float, own: float | None) -> float:
    if own is None:
        return declared
    if not 0 <= own < 0.5:
        raise InvalidInput(
            f"epsilon is {own}", why="the scheme needs a share from 0 to below 1/2 (Adi et al.)"
        )
    return min(declared, own)
