"""Is this model a substitute, trained on leaning answers? The judge's question, from labels alone.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.data import load
>>> from doorward.honeypot.lean import Entry, LeanKey, Menu
>>> from doorward.honeypot.proof.claim import make_claim
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> ada, key = Identity.new("Ada"), LeanKey.new(bits=3)
>>> claim = make_claim(key, menu, ada)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> digits = load("digits", split="test", size=16)
>>> verdict = verify_substitute(claim, key, innocent, digits, public=ada.public)
>>> verdict.verified, verdict.images
(False, 8)

*Was it this key?* The suspect is asked about every wave of the menu. Were it independent of the
key, the key would be any of the menu's with equal chance, and its rank is an exact p-value without
any assumption about models (`doorward.honeypot.proof.rank`). *Would any model of this task do it?*
Some waves look a little like some class to everybody. So independently trained controls are asked
about the same, and for every pair of wave and class only what exceeds all of them counts (which
treats all pairs alike, so that the p-value stays exact); the suspect's success must exceed every
control's by the claim's margin; and its rank among them is stated, with models as the unit.

It may stop early, for either side: after a look whose p-value, times the number of planned looks,
satisfies the rule; or, without an accusation, after one at which half of all keys did as well.

What a verdict does not say. It proves knowledge of the key's choice, not how it came about: a model
trained after the key was shown proves nothing, nor one that is older than the claim's time stamp,
since its owner could have drawn keys until one fitted.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from doorward.bundles import open_black_box
from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.honeypot.lean.key import LeanKey
from doorward.honeypot.lean.menu import pick_images
from doorward.honeypot.proof.asking import Told, ask, join
from doorward.honeypot.proof.claim import LeanClaim, LeanStatement
from doorward.honeypot.proof.counting import blank_verdict, count_again, image_seed, opens
from doorward.honeypot.proof.verdict import Verdict

__all__ = ["Examination", "examine", "verify_substitute"]

_HOPELESS = -1.0  # log2 of the p-value at a look above which nothing is to be expected of more


@dataclass(frozen=True)
class Examination:
    """A verdict with what it rests on; `doorward.honeypot.proof.transcript` signs it.

    Attributes:
        verdict: the verdict.
        claim: digest of the claim.
        truth: true labels of the images.
        told: the suspect's answers to all waves of the menu; None if it was not asked.
        controls: the controls' answers to the same.
    """

    verdict: Verdict
    claim: str
    truth: tuple[int, ...] = ()
    told: Told | None = None
    controls: tuple[Told, ...] = ()


def verify_substitute(
    claim: LeanClaim | str | os.PathLike[str],
    key: LeanKey,
    suspect: Any,
    clean: ImageSource,
    controls: Sequence[Any] = (),
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    trust_factory: bool = False,
) -> Verdict:
    """Decide whether a suspect was trained on the answers that lean by a key.

    Args:
        claim: the claim, or the path of its file.
        key: the opened key. Whoever verifies learns it.
        suspect: a module, a bundle, an ``.onnx`` file, an ``http(s)://`` endpoint, a `BlackBox`, or
            any callable from images to labels. Only labels are used.
        clean: labelled images of the task, at least as many as the claim's last look; which of them
            are asked about follows from the claim.
        controls: models that certainly did not see the answers, in the same forms; better of the
            same task, data and size. 19 of them give a rank of 0.05 at best.
        public: the owner's public identity, from a source that you trust.
        alpha: your own level, in (0, 1); of it and the claim's, the stricter decides.
        trust_factory: as `bundles.open_black_box`.

    Returns:
        The verdict: yes if the p-value, corrected for the looks, satisfies the level, and the
        suspect exceeds all controls by the claim's margin. A key that does not open the commitment
        gives ``verified=False``, and the suspect is not asked.

    Raises:
        IntegrityError: the claim was changed, or is signed by somebody else.
        ModelUnsuitable: a model has other classes, or answers nonsense.
        InvalidInput: there are too few images, of another shape or task; the level is out of range
            or reach.
        EndpointFailed: an endpoint does not answer (any more).
    """
    return examine(
        claim,
        key,
        suspect,
        clean,
        controls,
        public=public,
        alpha=alpha,
        trust_factory=trust_factory,
    ).verdict


def examine(
    claim: LeanClaim | str | os.PathLike[str],
    key: LeanKey,
    suspect: Any,
    clean: ImageSource,
    controls: Sequence[Any] = (),
    *,
    public: PublicIdentity,
    alpha: float | None = None,
    trust_factory: bool = False,
) -> Examination:
    """As `verify_substitute`, with all answers, which a verifier can sign as a transcript."""
    claim = claim if isinstance(claim, LeanClaim) else LeanClaim.load(claim)
    claim.check(public)
    statement = claim.statement
    log2_alpha = _stricter(statement, alpha)
    _check_images(statement, clean)
    if not opens(statement, key):
        return Examination(blank_verdict(claim, log2_alpha), claim.digest())
    amplitudes = statement.amplitudes
    classes = statement.menu.classes
    boxes = [open_black_box(model, trust_factory=trust_factory) for model in (suspect, *controls)]
    images, labels = pick_images(clean, statement.looks[-1], image_seed(claim))
    truth = tuple(int(label) for label in labels)
    told: list[Told | None] = [None] * len(boxes)
    begin = 0
    for end in statement.looks:
        for place, box in enumerate(boxes):
            part = ask(box, images[begin:end], statement.menu.waves, amplitudes, classes=classes)
            told[place] = join(told[place], part, len(amplitudes))
        begin = end
        own, *others = (answers for answers in told if answers is not None)
        verdict = count_again(claim, key, own, truth[:end], others, log2_alpha)
        hopeless = verdict.looks[-1][1] > _HOPELESS
        if hopeless or (verdict.log2_p is not None and verdict.log2_p <= log2_alpha):
            break
    verdict = replace(verdict, suspect=dict(boxes[0].describe()))
    return Examination(verdict, claim.digest(), truth[:begin], own, tuple(others))


def _stricter(statement: LeanStatement, alpha: float | None) -> float:
    if alpha is None:
        return statement.log2_alpha
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    level = min(statement.log2_alpha, math.log2(alpha))
    if statement.best > level:
        raise InvalidInput(
            f"a level of {alpha:.3g} is out of reach",
            why=f"the claim's {statement.keys} keys allow no p-value below 2^{statement.best:.4g}",
            remedy="choose a larger alpha",
        )
    return level


def _check_images(statement: LeanStatement, clean: ImageSource) -> None:
    menu = statement.menu
    if clean.image_shape != menu.image_shape or clean.num_classes != menu.classes:
        raise InvalidInput(
            f"{clean.name} has images {clean.image_shape} of {clean.num_classes} classes",
            why=f"the claim is about {menu.image_shape} and {menu.classes} classes",
            remedy="load images of the task in that size",
        )
    if len(clean) < statement.looks[-1]:
        raise InvalidInput(
            f"{clean.name} has {len(clean)} images",
            why=f"the claim's last look needs {statement.looks[-1]}",
        )
