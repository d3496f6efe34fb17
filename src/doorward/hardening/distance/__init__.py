"""Class distances: how small a change turns one class of a model into another.

    result = class_distances(model, clean, kind="patch")     # or pixel, ssim, lpips, parameters
    result.closest(3), result.unreachable, result.mean

The measuring attack is fixed and named by its digest (`measuring`), so that models hardened in
different ways are measured by the same stranger; `enlargement` compares two results.
"""

from doorward.hardening.distance.distances import class_distances, measure_distances
from doorward.hardening.distance.intervals import Estimate, bootstrap
from doorward.hardening.distance.measuring import MOTH, Measuring, measuring
from doorward.hardening.distance.results import Close, DistanceResult, Enlargement, enlargement

__all__ = [
    "MOTH",
    "Close",
    "DistanceResult",
    "Enlargement",
    "Estimate",
    "Measuring",
    "bootstrap",
    "class_distances",
    "enlargement",
    "measure_distances",
    "measuring",
]
