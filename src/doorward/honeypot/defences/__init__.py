"""Defences of others, to compare the honeypot with: answers in, what is told out.

>>> import torch
>>> from doorward.honeypot.defences import DEFENCES, Defended
>>> from doorward.models import create
>>> victim = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> box = Defended(victim, DEFENCES["reverse-sigmoid"](beta=0.5))
>>> box.labels(torch.rand(3, 1, 16, 16)).shape
torch.Size([3])

A `Defended` is a black box: a victim for `doorward.extraction.steal`, a suspect for a verification.
Those that fit there stand among the policies of the gateway, too, under the same names
(`doorward.serving.gateway.POLICIES`).
"""

from doorward.honeypot.defences.base import DEFENCES, Answering, Defence, Defended
from doorward.honeypot.defences.bending import AdaptiveMisinformation, ReverseSigmoid
from doorward.honeypot.defences.dawn import Dawn
from doorward.honeypot.defences.poisoning import Mad
from doorward.honeypot.defences.prada import Prada, PradaWatch
from doorward.honeypot.defences.telling import Rounding, TopOne

__all__ = [
    "DEFENCES",
    "AdaptiveMisinformation",
    "Answering",
    "Dawn",
    "Defence",
    "Defended",
    "Mad",
    "Prada",
    "PradaWatch",
    "ReverseSigmoid",
    "Rounding",
    "TopOne",
]
