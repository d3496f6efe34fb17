"""MESA: the whole distribution of a class's triggers, learnt without having seen one.

    result, recovered = scan(model, clean, "mesa")
    recovered[3].pictures(16, draw)                   # patches that send images to class 3
    recovered[3].at_level(0.9).stamp(images, draw)    # only those that nearly always do

A point inverted for a class is one of very many triggers that work; unlearning it leaves the
others. Here small generators fill the set of all of them, level by level of their success.
"""

# Importing the scanner files it in SCANNERS, the distribution in RECOVERED.
from doorward.scanning.mesa.distribution import PatchDistribution
from doorward.scanning.mesa.entropy import knn_entropy, mixture_weights
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.scanner import Mesa

__all__ = ["Generators", "Mesa", "PatchDistribution", "knn_entropy", "mixture_weights"]
