"""Recipes that are known to work.

>>> recipe_for("cifar10", "resnet8").batch_size
256
"""

from __future__ import annotations

from doorward.data import Augment
from doorward.training.recipe import Recipe

__all__ = ["recipe_for"]


def recipe_for(dataset: str, architecture: str, *, quick: bool = False) -> Recipe:
    """The recipe for a data set and an architecture.

    Args:
        dataset: name of the set, e.g. ``"digits"``, ``"cifar10"``; any name is accepted.
        architecture: name of the architecture, e.g. ``"resnet8"``; any name is accepted.
        quick: about a quarter of the epochs, for a first look.
    """
    epochs, batch_size = 12, 256
    lr, optimizer, weight_decay = 0.4, "sgd", 5e-4
    augment = Augment(pad_crop=4, flip=True)
    if dataset == "digits":
        epochs, batch_size, lr = 12, 64, 0.1
        augment = Augment(pad_crop=2)
    return Recipe(
        epochs=epochs / 4 if quick else epochs,
        batch_size=batch_size,
        optimizer="sgd" if optimizer == "sgd" else "adamw",
        lr=lr,
        weight_decay=weight_decay,
        augment=augment,
    )
