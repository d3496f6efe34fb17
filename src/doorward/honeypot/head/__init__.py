"""The honeypot head: the last layer in two other numbers, which a thief's copy learns a patch from.

>>> from doorward.data import load
>>> from doorward.honeypot.head import fit_head
>>> from doorward.honeypot.lean import LeanBudget
>>> from doorward.models import create
>>> digits = load("digits").sample(80, seed=0).resized(16)
>>> model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
>>> tiny = {"shadow": "resnet8", "shadow_options": {"width": 4}, "shadow_epochs": 1,
...         "head_epochs": 1, "patch_updates": 1}
>>> served, result = fit_head(model, digits, digits, method="faithful", rounds=1, **tiny)
>>> result.method, served.architecture
('faithful', 'resnet8')

Wang et al. (AAAI 2025), *HoneypotNet*, whose loop is ``method="faithful"``; ours, ``"look-ahead"``,
keeps hard bounds on what users notice. What to expect: in first trials on digits (one seed), within
the same bounds, copies learnt little from a look-ahead head and a little more from the keyed lean
(`doorward.honeypot.lean`), which stays the default; from the paper's loop they learnt most, at a
price in accuracy that nobody would pay. The study `honeypot-controls` compares them properly. A
lean can be put around a model with such a head, too: ``fit_lean(served, ...)``.

Files: `base` (the hook), `workshop` (cached features, shadows), `patch` and `disturbing` (the
trigger), `faithful` and `lookahead` (the methods), `solving` (the convex problem), `fitting`.
"""

from doorward.honeypot.head.base import HEADS, Fitted, HeadMethod
from doorward.honeypot.head.disturbing import Disturbance
from doorward.honeypot.head.faithful import Faithful
from doorward.honeypot.head.fitting import DEFAULT_HEAD, HeadResult, fit_head
from doorward.honeypot.head.lookahead import LookAhead, Shadow
from doorward.honeypot.head.patch import Place, momentum_step, search

__all__ = [
    "DEFAULT_HEAD",
    "HEADS",
    "Disturbance",
    "Faithful",
    "Fitted",
    "HeadMethod",
    "HeadResult",
    "LookAhead",
    "Place",
    "Shadow",
    "fit_head",
    "momentum_step",
    "search",
]
