"""Hardening: how far apart a model's classes are, and the attacks that measure it.

Distances of all ordered pairs at once, by a fixed attack::

    result = class_distances(model, clean, kind="patch")         # MOTH's distance
    result = class_distances(model, clean, kind="pixel")         # of whole-image changes
    result.closest(5), result.unreachable, result.mean

The attack itself, pair by pair, by class or universal, minimal or within a budget::

    found = attack_pairs(model, clean, "pairs", families=("flow", "colour"))
    strong = Settings(shrink=None, limits={"ssim": 0.1})
    found = attack_pairs(model, clean, "classes", settings=strong)

Inside an objective that hardens a model, a few steps per batch on the batch's own images, many
pairs in one forward pass; the model's weights, gradients and mode are left alone::

    change = Pervasive.for_pairs([(3, 5), (5, 3)], image_shape, space, seed=seed, device=device)
    stepper = Stepper(change, [(3, 5), (5, 3)], limits={"pixel": 2.0})
    for _ in range(20):
        step = stepper.step(model, images, labels)     # (R, B, C, H, W) of classes 3 and 5; (R, B)
    hard = stepper.changed(images).flatten(0, 1)       # train on them with their true labels

Warm starts keep ``change`` (or ``change.taken(rows)``, ``change.put(rows, part)``) between batches.
`Patches` in place of `Pervasive` makes the same loop MOTH's.
"""

from doorward.hardening.aims import Aims
from doorward.hardening.attack import attack_pairs
from doorward.hardening.distance import (
    DistanceResult,
    Enlargement,
    Measuring,
    class_distances,
    enlargement,
    measure_distances,
    measuring,
)
from doorward.hardening.engine import PairAttack, attack_in
from doorward.hardening.measures import MEASURES, Perceptual
from doorward.hardening.settings import Settings
from doorward.hardening.stepping import Step, Stepper
from doorward.hardening.transforms import (
    FAMILIES,
    Change,
    Coder,
    Patches,
    Pervasive,
    Space,
    train_coder,
)

__all__ = [
    "FAMILIES",
    "MEASURES",
    "Aims",
    "Change",
    "Coder",
    "DistanceResult",
    "Enlargement",
    "Measuring",
    "PairAttack",
    "Patches",
    "Perceptual",
    "Pervasive",
    "Settings",
    "Space",
    "Step",
    "Stepper",
    "attack_in",
    "attack_pairs",
    "class_distances",
    "enlargement",
    "measure_distances",
    "measuring",
    "train_coder",
]
