"""Triggers and backdoors: what an attacker does to an image, and which label he wants for it.

A trigger is an image -> image module, in pixel space, for any size and 1 or 3 channels:

>>> import torch
>>> from doorward.triggers import AllToOne, Backdoor, Patch
>>> images = torch.zeros(2, 3, 32, 32)
>>> patch = Patch(size=3, position="bottom-right")
>>> patch(images)[0, 0, -4:, -4:]
tensor([[0., 0., 0., 0.],
        [0., 1., 1., 1.],
        [0., 1., 1., 1.],
        [0., 1., 1., 1.]])

It says how strong it is, so that two attacks can be compared:

>>> patch.strength(images).linf
1.0

A backdoor is a trigger and a label rule; both are saved without pickles and come back equal:

>>> backdoor = Backdoor(patch, AllToOne(target=7))
>>> backdoor.rule.labels(torch.tensor([0, 1]))
tensor([7, 7])
>>> Backdoor.from_dict(backdoor.to_dict()).rule
AllToOne(target=7)

New triggers subclass `Trigger`, write `apply` and `config`, and register in `TRIGGERS`.
"""

from doorward.triggers.additive import Additive
from doorward.triggers.backdoor import Backdoor
from doorward.triggers.base import TRIGGERS, Strength, Trigger
from doorward.triggers.blend import Blend
from doorward.triggers.composite import Composite
from doorward.triggers.corners import Corners
from doorward.triggers.filters import FILTERS, Filter
from doorward.triggers.frequency import Frequency
from doorward.triggers.generated import LearntNoise, MaskedPattern
from doorward.triggers.low_frequency import LowFrequency
from doorward.triggers.patch import Patch
from doorward.triggers.quantise import Quantise
from doorward.triggers.reflection import Reflection
from doorward.triggers.rules import (
    RULES,
    AllToAll,
    AllToOne,
    CleanLabel,
    LabelRule,
    SourceToTarget,
)
from doorward.triggers.sinusoid import Sinusoid
from doorward.triggers.steganographic import Steganographic
from doorward.triggers.style import Style
from doorward.triggers.warp import Warp
from doorward.triggers.waves import Waves

__all__ = [
    "FILTERS",
    "RULES",
    "TRIGGERS",
    "Additive",
    "AllToAll",
    "AllToOne",
    "Backdoor",
    "Blend",
    "CleanLabel",
    "Composite",
    "Corners",
    "Filter",
    "Frequency",
    "LabelRule",
    "LearntNoise",
    "LowFrequency",
    "MaskedPattern",
    "Patch",
    "Quantise",
    "Reflection",
    "Sinusoid",
    "SourceToTarget",
    "Steganographic",
    "Strength",
    "Style",
    "Trigger",
    "Warp",
    "Waves",
]
