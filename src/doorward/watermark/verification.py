"""Is this model marked with that key? The judge's question, answered from labels alone.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=100, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> verdict = verify(claim, key, innocent, public=ada.public)
>>> verdict.verified, verdict.n, verdict.needed
(False, 100, 46)

`doorward.watermark.verifying` has the same with cover questions, resumption, and minutes that the
verifier signs.

Null hypothesis: the suspect's answers are independent of the key's labels. These are uniform on L
classes, so the matches of *any* fixed model, whatever its preferences, are then distributed as
Binomial(n, 1/L), and the one-sided tail is an exact p-value (Adi et al. 2018 fix no threshold).

What the p-value does not say. It is that of one key, drawn without a look at the suspect: a
claimant who draws k keys and shows the best one has k times the chance, which is why 2^-64 is the
default rule. And it says that the suspect's maker used the labels, not how they came by them: once
a key has been shown (in a dispute, say), models made later may have been taught its labels on
purpose. Asking a suspect does not spoil the test in the claimant's favour: the suspect sees the
images, never the labels; but it may learn to refuse them (`doorward.watermark.verifying.queries`).
"""

from __future__ import annotations

import os
import random
from typing import Any

import torch
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageSource
from doorward.errors import ModelUnsuitable
from doorward.watermark.claim import Claim
from doorward.watermark.key import WatermarkKey
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.examination import examine
from doorward.watermark.verifying.interrogation import require_same_classes
from doorward.watermark.verifying.plan import QueryPlan

__all__ = ["count_matches", "verify"]


def verify(
    claim: Claim | str | os.PathLike[str],
    key: WatermarkKey,
    suspect: Any,
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
    resume: str | os.PathLike[str] | None = None,
) -> Verdict:
    """Decide whether a suspect model carries the mark of a claim.

    The claim's signature is checked; the root is derived again from the key, so that triggers
    cannot have been chosen to suit the model; the suspect is asked for the labels of all triggers
    in an order that it cannot foresee; matches are counted, and the claim's rule decides.

    Args:
        claim: the claim, or the path of its file.
        key: the opened key. Whoever verifies learns it; see `WatermarkKey.new` on `owner`.
        suspect: a module, a bundle's folder, an ``.onnx`` file, an ``http(s)://`` endpoint, a
            `BlackBox`, or any callable from float images ``(N, C, H, W)`` in ``[0, 1]`` to int64
            labels ``(N,)``.
        public: the owner's public identity, from a source that you trust.
        alpha: your own level, in (0, 1); of it and the claim's, the stricter decides. The claim's
            was chosen by the claimant (at most 2**-20).
        plan: what else the suspect is asked, and how fast; by default nothing else.
        covers: images of the suspect's task, for the plan's cover queries; by default look-alikes
            of the triggers (see `doorward.watermark.verifying.queries` on which are better).
        resume: a file that keeps what was answered. With the same arguments, an interrupted
            verification goes on where it was, and a finished one is not asked again. Keep it to
            yourself: it shows the order of the questions.

    Returns:
        The verdict. A key that does not open the commitment gives ``verified=False``, and the
        suspect is not asked.

    Raises:
        IntegrityError: the claim was changed, or is signed by somebody else.
        BadFile: the claim's file is no claim, or the resume file no resume file.
        ModelUnsuitable: the suspect has fewer classes than the key, or answers nonsense.
        InvalidInput: the suspect takes images of another shape; the level is out of range or reach;
            the covers do not fit; the resume file belongs to another verification.
        EndpointFailed: the endpoint does not answer (any more).
    """
    found = examine(
        claim, key, suspect, public=public, alpha=alpha, plan=plan, covers=covers, resume=resume
    )
    return found.verdict


def count_matches(key: TriggerSet, suspect: Any) -> int:
    """How many triggers a suspect gives the key's label.

    Args:
        key: the key.
        suspect: as in `verify`.

    Returns:
        0 to ``key.n``.

    Raises:
        ModelUnsuitable, InvalidInput, EndpointFailed: as `verify`.

    >>> key = WatermarkKey.new(n=3, classes=10, image_shape=(1, 16, 16))
    >>> count_matches(key, lambda images: key.triggers()[1].sort().values) <= 3
    True
    """
    box = open_black_box(suspect)
    require_same_classes(box, key.classes)
    images, labels = key.triggers()
    # From the system's own random numbers: an endpoint that knew the order could prepare for it.
    order = list(range(key.n))
    random.SystemRandom().shuffle(order)
    places = torch.tensor(order)
    answers = _checked(box.labels(images[places].float() / 255), key)
    require_same_classes(box, key.classes)
    return int((answers == labels[places]).sum())


def _checked(answers: Tensor, key: TriggerSet) -> Tensor:
    answers = torch.as_tensor(answers).cpu()
    if answers.shape != (key.n,) or answers.is_floating_point() or answers.is_complex():
        raise ModelUnsuitable(
            f"the suspect answered {answers.dtype} of shape {tuple(answers.shape)}",
            why=f"{key.n} images need {key.n} whole-number labels",
            remedy="give a callable that returns labels, for example logits.argmax(1)",
        )
    if int(answers.min()) < 0 or int(answers.max()) >= key.classes:
        raise ModelUnsuitable(
            f"the suspect answered labels {int(answers.min())} to {int(answers.max())}",
            why=f"the key is for {key.classes} classes, numbered from 0",
            remedy="this key cannot have marked this model; compare the right ones",
        )
    return answers
