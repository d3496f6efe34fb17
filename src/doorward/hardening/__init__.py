"""Hardening: how far apart a model's classes are, and how they are pushed apart.

One call hardens a copy of a model, by any method in `HARDENINGS`, within a budget of accuracy::

    hardened, result = harden(model, clean, "deck", budget_accuracy=1.0, seed=0)
    result.accuracy_before, result.accuracy_after, result.ended
    robustness(hardened, test, surrogate=model).signs_of_masking    # [] if none is seen

`Deck` and `Moth` are removal methods, too: ``remove(model, clean, "deck")``. Distances of all
ordered pairs at once, by a fixed attack::

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
from doorward.hardening.methods import HARDENINGS, Deck, Hardening, Moth, hardening
from doorward.hardening.natural import Natural, natural_backdoors, success_on
from doorward.hardening.robustness import Robustness, robustness
from doorward.hardening.running import HardeningResult, harden
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
    "HARDENINGS",
    "MEASURES",
    "Aims",
    "Change",
    "Coder",
    "Deck",
    "DistanceResult",
    "Enlargement",
    "Hardening",
    "HardeningResult",
    "Measuring",
    "Moth",
    "Natural",
    "PairAttack",
    "Patches",
    "Perceptual",
    "Pervasive",
    "Robustness",
    "Settings",
    "Space",
    "Step",
    "Stepper",
    "attack_in",
    "attack_pairs",
    "class_distances",
    "enlargement",
    "harden",
    "hardening",
    "measure_distances",
    "measuring",
    "natural_backdoors",
    "robustness",
    "success_on",
    "train_coder",
]
