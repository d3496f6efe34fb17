"""MESA as in its paper and the authors' code, to measure faster ways against.

The scanner `mesa-reference` fits one generator per class, class after class; every oddity of the
code is a switch (see `Constants`):

    result, recovered = scan(model, clean, "mesa-reference")
    result, recovered = scan(model, clean, MesaReference(targets=(0,), levels=(0.9,)))

The rest of the paper's experiment is here, too: its triggers, how they are planted, and the
baseline of single triggers found by descent on pixels:

>>> from doorward.triggers import AllToOne, Backdoor
>>> backdoor = Backdoor(pattern_trigger(170), AllToOne(0))      # one of 51
>>> PointSearch().passes, INJECTION.lr
(5, 0.001)

    inject(model, train, backdoor)
    points = reverse_points(model, clean, target=0, count=10)

Its last step, retraining under true labels, is the removal method `mesa-unlearning`.
"""

from doorward.scanning.mesa.reference.constants import Constants
from doorward.scanning.mesa.reference.mine import BiasCorrection, StatisticsNetwork, information
from doorward.scanning.mesa.reference.patterns import (
    colour_trigger,
    pattern,
    pattern_numbers,
    pattern_trigger,
)
from doorward.scanning.mesa.reference.planting import INJECTION, inject
from doorward.scanning.mesa.reference.points import PointSearch, reverse_points
from doorward.scanning.mesa.reference.pointset import Points
from doorward.scanning.mesa.reference.scanner import MesaReference
from doorward.scanning.mesa.reference.submodel import fit_submodel

__all__ = [
    "INJECTION",
    "BiasCorrection",
    "Constants",
    "MesaReference",
    "PointSearch",
    "Points",
    "StatisticsNetwork",
    "colour_trigger",
    "fit_submodel",
    "information",
    "inject",
    "pattern",
    "pattern_numbers",
    "pattern_trigger",
    "reverse_points",
]
