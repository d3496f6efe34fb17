"""Attacks that write something else over the mark: another mark, or another task.

>>> from doorward.watermark.suite.attack import ATTACKS
>>> [name for name in ("overwriting", "transfer") if name in ATTACKS]
['overwriting', 'transfer']
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib

from torch import nn

from doorward.errors import InvalidInput
from doorward.metrics import accuracy
from doorward.models import find_head, replace_head
from doorward.randomness import Secret, derive_seed
from doorward.training import fit
from doorward.watermark.embedding import embed
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.suite.attack import ATTACKS, Struck, Thief, under_old_head
from doorward.watermark.triggerset import TriggerSet

__all__ = ["overwriting", "transfer"]


@ATTACKS.register("overwriting", paper="Adi et al. 2018, ownership piracy")
def overwriting(
    model: nn.Module, mark: TriggerSet, thief: Thief, *, epochs: float | None = None
) -> Struck:
    """Embed a mark of the thief's own, of the same size, into the marked model.

    Args:
        model: marked; not changed.
        mark: gives number of triggers, classes and image shape of the thief's key.
        thief: trains by its recipe at half the learning rate.
        epochs: of that; None means as many as the recipe says, an equal budget.
    """
    suspect = copy.deepcopy(model)
    # Derived, unlike a key that somebody relies on: the same thief does the same again.
    seed = hashlib.sha256(f"overwriting {thief.seed}".encode()).digest()
    parameters = KeyParameters(n=mark.n, classes=mark.classes, image_shape=mark.image_shape)
    key = WatermarkKey(Secret(seed), parameters)
    recipe = dataclasses.replace(
        thief.recipe,
        epochs=thief.recipe.epochs if epochs is None else epochs,
        lr=thief.recipe.lr / 2,
        seed=derive_seed(thief.seed, "overwriting"),
    )
    done = embed(suspect, thief.data, key, recipe, mode="pretrained", device=thief.device)
    return Struck(suspect, suspect, facts={"second_trigger_accuracy": done.trigger_accuracy})


@ATTACKS.register("transfer", paper="Adi et al. 2018, transfer learning")
def transfer(
    model: nn.Module,
    mark: TriggerSet,
    thief: Thief,
    *,
    epochs: float | None = None,
    lr: float | None = None,
) -> Struck:
    """Re-train the model, under a new head, for another task; the owner asks through the old head.

    Args:
        model: marked; not changed.
        mark: not used.
        thief: `Thief.other` is the new task; it is resized to the images that the model takes.
        epochs: None means the recipe's.
        lr: None means a tenth of the recipe's, as is usual for a trained body.
    """
    if thief.other is None:
        raise InvalidInput(
            "transfer needs another task",
            remedy="give the thief other labelled images, or leave this attack out",
        )
    channels, height, width = mark.image_shape
    other = thief.other.with_channels(channels).resized((height, width))
    suspect = copy.deepcopy(model)
    _, old = find_head(suspect)
    head = nn.Linear(old.in_features, other.num_classes, bias=old.bias is not None)
    replace_head(suspect, head.to(old.weight.device), classes=other.classes)
    part, held = other.split(0.8, 0.2, seed=thief.seed)
    recipe = dataclasses.replace(
        thief.recipe,
        epochs=thief.recipe.epochs if epochs is None else epochs,
        lr=thief.recipe.lr / 10 if lr is None else lr,
        seed=derive_seed(thief.seed, "transfer"),
    )
    fit(suspect, None, part, recipe, device=thief.device)
    facts = {"task": other.name, "task_accuracy": accuracy(suspect, held)}
    return Struck(suspect, under_old_head(suspect, model), True, facts)
