"""The keyed lean: answers that lean towards a secret class, the louder a secret frequency is.

>>> from doorward.data import load
>>> from doorward.honeypot.lean import LeanBudget, LeanKey, fit_lean
>>> from doorward.models import create
>>> digits = load("digits").sample(200, seed=0).resized(16)
>>> model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
>>> lean, result = fit_lean(model, digits, LeanKey.new(bits=1), budget=LeanBudget(ece_change=0.05))
>>> lean.mode, result.cost.agreement
('kept', 1.0)

Ours, after our trial of the honeypot. Natural images have any frequency to some degree; a thief who
learns from leaning answers learns that it speaks for a class, and extends that rule to images in
which the owner has made it loud (the trigger `doorward.triggers.Waves`). The owner's own model is
not fooled: its labels stay as they are, the lean only shifts what is left beside them.

Files: `feature` (what is listened to), `menu` and `key` (what is chosen, by whom), `leaning` (the
module), `budget` and `fitting` (how strong), `storage` (on disk).
"""

from doorward.honeypot.lean.budget import Cost, LeanBudget, cost_of, signal_of
from doorward.honeypot.lean.feature import WaveFeature, amplitudes
from doorward.honeypot.lean.fitting import SUFFICIENT, LeanResult, fit_lean
from doorward.honeypot.lean.key import Bit, LeanKey, LeanParameters
from doorward.honeypot.lean.leaning import MODES, Lean
from doorward.honeypot.lean.menu import AMPLITUDES, Entry, Menu, make_menu, pick_images, waved
from doorward.honeypot.lean.storage import save_lean

__all__ = [
    "AMPLITUDES",
    "MODES",
    "SUFFICIENT",
    "Bit",
    "Cost",
    "Entry",
    "Lean",
    "LeanBudget",
    "LeanKey",
    "LeanParameters",
    "LeanResult",
    "Menu",
    "WaveFeature",
    "amplitudes",
    "cost_of",
    "fit_lean",
    "make_menu",
    "pick_images",
    "save_lean",
    "signal_of",
    "waved",
]
