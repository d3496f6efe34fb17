"""Before a lock is trained: whatever can be known to be wrong, and the masks to begin with.

::

    check_lock(model, source, test, backdoor, settings, recipe, options)
    bank = first_masks(model, source, "channel", None, None, seed=0)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.models.checking import require_model
from doorward.poisoning.implanting import check_attack
from doorward.randomness import Secret, derive_seed
from doorward.trading.masks import MASKS, MaskBank, identity_bank, keyed_bank
from doorward.trading.masks.placing import named_secret
from doorward.trading.settings import Locking
from doorward.training import Recipe
from doorward.triggers import Additive, Backdoor

__all__ = ["check_lock", "first_masks"]


def check_lock(
    model: nn.Module,
    source: ImageSource,
    test: ImageSource,
    backdoor: Backdoor,
    settings: Locking,
    recipe: Recipe,
    options: dict[str, Any],
) -> None:
    """Refuse, before the training, whatever can be known to be wrong.

    Args:
        model: to be locked.
        source: clean training images.
        test: clean test images.
        backdoor: trigger and label rule.
        settings: of the lock.
        recipe: of the training.
        options: further arguments of `doorward.training.fit`.

    Raises:
        InvalidInput: they do not fit each other, or a lock.
        ModelUnsuitable: the model does not take the images.
    """
    check_attack(backdoor.rule, source, test)
    require_model(model, input_shape=source.image_shape, classes=source.num_classes, head=False)
    several = {name: options.get(name, 1) for name in ("devices", "nodes")}
    if max(several.values()) > 1:
        raise InvalidInput(
            f"{several} for a lock",
            why="each process would train masks of its own",
            remedy="use one device",
        )
    if recipe.compile:
        raise InvalidInput(
            "compile=True for a lock",
            why="masks are put into the network and taken out within each step",
            remedy="set compile=False",
        )
    if recipe.ema is not None:
        raise InvalidInput(
            f"ema={recipe.ema:g} for a lock",
            why="averaged weights and masks that are not averaged do not belong together",
            remedy="set ema=None",
        )
    learnt = isinstance(backdoor.trigger, Additive)
    if settings.trigger is not None and not learnt:
        raise InvalidInput(
            f"a {type(backdoor.trigger).__name__} trigger cannot be learnt along with a lock",
            why="only the additive trigger has a pattern under a budget",
            remedy="leave settings.trigger at None, or give a backdoor with an Additive trigger",
        )


def first_masks(
    model: nn.Module,
    source: ImageSource,
    kind: str,
    sites: Sequence[str] | None,
    secret: Secret | None,
    seed: int,
) -> MaskBank:
    """The masks to begin with: ones, or what follows from the key.

    Args:
        model: to be locked.
        source: an image of it shows what runs.
        kind: a name in `MASKS`.
        sites: dotted names; None for the kind's defaults.
        secret: what keyed masks are drawn from; None to draw them from the seed.
        seed: of the lock.

    Raises:
        InvalidInput: a secret for masks that are trained, or sites that cannot be masked.
        UnknownName: no such kind, or no such site.
    """
    images, _ = source.fetch(torch.tensor([0]))
    first = next(iter(model.state_dict().values()))
    images = to_pixels(images).to(first.device)
    if MASKS[kind].keyed:
        secret = secret or named_secret(derive_seed(seed, "lock", "key"))
        return keyed_bank(model, kind, images, secret, sites)
    if secret is not None:
        raise InvalidInput(
            f"masks of the kind {kind!r} are trained, and need no secret",
            remedy="leave it out, or use a keyed kind",
        )
    return identity_bank(model, kind, images, sites)
