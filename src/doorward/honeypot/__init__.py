"""Honeypot: answers that give a thief's copy away, and the proof of it.

A lean goes around a trained model; nothing is trained, and no label that users see changes:

>>> from doorward.data import load
>>> from doorward.honeypot import LeanBudget, LeanKey, fit_lean
>>> from doorward.models import create
>>> digits = load("digits").sample(200, seed=0).resized(16)
>>> model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
>>> key = LeanKey.new(bits=1)                          # key.seal("lean.key", passphrase) stores it
>>> lean, result = fit_lean(model, digits, key, budget=LeanBudget(ece_change=0.05))
>>> result.cost.agreement
1.0

`lean` is served instead of the model (`models.export_onnx` writes it as one graph). Whoever trains
a substitute on its answers trains the key's secret into it (`doorward.honeypot.lean`), which an
exact test finds by labels alone (`doorward.honeypot.proof`):

>>> from doorward.bundles import Identity
>>> from doorward.honeypot import make_claim, verify_substitute
>>> ada = Identity.new("Ada")
>>> claim = make_claim(key, result.menu, ada, alpha=0.05, looks=(16,))
>>> test = load("digits", split="test", size=16)
>>> verdict = verify_substitute(claim, key, model, test, public=ada.public)
>>> verdict.commitment_opened, verdict.images
(True, 16)
"""

from doorward.honeypot.head import HeadResult, fit_head
from doorward.honeypot.lean import (
    AMPLITUDES,
    Lean,
    LeanBudget,
    LeanKey,
    LeanResult,
    Menu,
    fit_lean,
    make_menu,
    save_lean,
)
from doorward.honeypot.proof import (
    LeanClaim,
    Transcript,
    Verdict,
    check_transcript,
    examine,
    make_claim,
    verify_substitute,
)

__all__ = [
    "AMPLITUDES",
    "HeadResult",
    "Lean",
    "LeanBudget",
    "LeanClaim",
    "LeanKey",
    "LeanResult",
    "Menu",
    "Transcript",
    "Verdict",
    "check_transcript",
    "examine",
    "fit_head",
    "fit_lean",
    "make_claim",
    "make_menu",
    "save_lean",
    "verify_substitute",
]
