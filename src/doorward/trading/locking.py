"""The lock: a trial model with a backdoor that masks withdraw.

::

    made = lock(model, train, recipe, test=test, masks="channel", seed=0)
    made.trial                          # the weights to give away: right on clean images, obedient
    unlocked = made.bank.fold(made.trial)        # the same architecture: right on triggered images
    made.result.outcome.trial_attack_success, made.result.outcome.unlocked_attack_success
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.errors import ModelUnsuitable
from doorward.randomness import Secret, derive_seed
from doorward.records import STRICT, Record
from doorward.trading.masks import MaskBank, TrainedMasks
from doorward.trading.measuring import LockOutcome, measure_lock, trigger_strength
from doorward.trading.objectives import LockObjective
from doorward.trading.preparing import check_lock, first_masks
from doorward.trading.settings import AntiRecovery, Locking, TriggerTuning
from doorward.training import FitResult, Recipe, fit
from doorward.triggers import Additive, AllToOne, Backdoor, Strength

__all__ = ["Lock", "LockResult", "learnt_backdoor", "lock"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LockResult(Record):
    """What a lock is and how it was made.

    Attributes:
        masks: kind of the masks.
        sites: where they are.
        values: how many numbers the masks have.
        key_bytes: size of the bank as a file.
        foldable: whether the masks fold into the weights.
        outcome: both models on test images.
        strength: how visible the trigger is.
        settings: all numbers of the lock.
        backdoor: trigger and label rule, as `Backdoor.to_dict` gives them.
        seed: of everything random.
        fit: what the training did.
    """

    masks: str
    sites: tuple[str, ...]
    values: Annotated[int, Field(ge=1)]
    key_bytes: Annotated[int, Field(ge=1)]
    foldable: bool
    outcome: LockOutcome
    strength: Strength
    settings: Locking
    backdoor: dict[str, Any]
    seed: int
    fit: FitResult


@dataclasses.dataclass(frozen=True)
class Lock:
    """A lock as it comes out of `lock`.

    Attributes:
        trial: the model to give away, in evaluation mode.
        bank: the masks that unlock it.
        backdoor: what triggers it, and what it then answers.
        result: the record.
    """

    trial: nn.Module
    bank: MaskBank
    backdoor: Backdoor
    result: LockResult

    def unlocked(self) -> nn.Module:
        """The unlocked model, folded where the masks fold."""
        apply = self.bank.fold if self.result.foldable else self.bank.apply
        return apply(self.trial)


def learnt_backdoor(source: ImageSource, *, target: int = 0, seed: int = 0) -> Backdoor:
    """An additive trigger of the size of the images, to be learnt along with the lock.

    Args:
        source: whose image size and classes count.
        target: what the trial answers to triggered images.
        seed: of the pattern to begin with.
    """
    channels, height, width = source.image_shape
    trigger = Additive(height=height, width=width, channels=channels, seed=seed)
    return Backdoor(trigger, AllToOne(target))


def lock(
    model: nn.Module,
    source: ImageSource,
    recipe: Recipe,
    *,
    test: ImageSource,
    backdoor: Backdoor | None = None,
    masks: str = "channel",
    sites: Sequence[str] | None = None,
    secret: Secret | None = None,
    anti_recovery: AntiRecovery | None = None,
    settings: Locking | None = None,
    seed: int | None = None,
    **options: Any,
) -> Lock:
    """Train a model into a trial that obeys a trigger until masks are put on it.

    Four terms on one set of weights: without masks, clean images get their class and triggered
    images the target; under the masks, both get their class. Of the paper (Xu et al. 2024) we know
    the abstract: mechanism and aims are theirs, everything else here (terms and weights, kinds and
    places of masks, BatchNorm, anti-recovery, learning of the trigger) is our reconstruction.

    BatchNorm: the trial's statistics come from clean rows alone, and the masked model has
    statistics of its own, which are part of the key (`Locking.statistics`). If both fed one set,
    the model would be right in training and wrong afterwards.

    Args:
        model: trained in place; fresh, or a trained one that gets its lock in a fine-tuning.
        source: clean training images.
        recipe: how to train. ``batchnorm="train"`` is taken as ``"clean-only"``.
        test: clean test images, to measure on.
        backdoor: trigger and label rule; None for an additive trigger that is learnt (target 0).
        masks: kind of the masks, a name in `MASKS`.
        sites: dotted names; None for the kind's defaults (see `masks.default_sites`).
        secret: what keyed masks are drawn from; None to draw them from the seed (for experiments
            only: whoever knows the seed then has the key).
        anti_recovery: simulate a buyer without the key; goes before that of `settings`.
        settings: all other numbers; None for the defaults.
        seed: of everything random; the recipe's if None.
        options: further arguments of `doorward.training.fit` (device, checkpoint, progress, ...).

    Returns:
        Trial, masks, backdoor and the record.

    Raises:
        InvalidInput: data, rule, sites or settings do not fit; said before the training.
        UnknownName: no such kind of mask, or no such site.
        ModelUnsuitable: the model does not take the images, or cannot be masked.
        TrainingDiverged: the loss became NaN or infinite, or exploded.

    >>> from doorward.data import load
    >>> from doorward.models import create
    >>> digits, test = (load("digits", split=s).resized(16) for s in ("train", "test"))
    >>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    >>> made = lock(model, digits, Recipe(max_steps=2, batch_size=32, lr=0.01), test=test)
    >>> made.result.masks, made.result.foldable, made.result.values
    ('channel', True, 84)
    """
    seed = recipe.seed if seed is None else seed
    settings = settings or Locking()
    if anti_recovery is not None:
        settings = dataclasses.replace(settings, anti_recovery=anti_recovery)
    if backdoor is None:
        backdoor = learnt_backdoor(source, seed=seed)
        if settings.trigger is None:
            settings = dataclasses.replace(settings, trigger=TriggerTuning())
    check_lock(model, source, test, backdoor, settings, recipe, options)
    if recipe.batchnorm == "train":
        recipe = dataclasses.replace(recipe, batchnorm="clean-only")
    start = first_masks(model, source, masks, sites, secret, seed)
    trained = TrainedMasks(start, settings.limits)
    trained.scatter(settings.spread, derive_seed(seed, "lock", "masks"))
    objective = LockObjective(
        model,
        trained,
        backdoor,
        settings,
        steps=recipe.steps(len(source)),
        seed=derive_seed(seed, "lock"),
    )
    fitted = fit(model, objective, source, recipe, **options)
    finished = _finished(backdoor, settings)
    bank = objective.cpu().bank()
    foldable = _folds(bank, model)
    unlocked = bank.fold(model) if foldable else bank.apply(model)
    result = LockResult(
        masks=masks,
        sites=bank.sites,
        values=bank.values,
        key_bytes=len(bank.to_bytes()),
        foldable=foldable,
        outcome=measure_lock(model, unlocked, test, finished),
        strength=trigger_strength(test, finished),
        settings=settings,
        backdoor=finished.to_dict(),
        seed=seed,
        fit=fitted,
    )
    return Lock(model, bank, finished, result)


def _finished(backdoor: Backdoor, settings: Locking) -> Backdoor:
    """The backdoor with the trigger at its last budget, on the CPU, frozen."""
    trigger = backdoor.trigger.cpu().requires_grad_(False)
    if settings.trigger is not None and isinstance(trigger, Additive):
        trigger.tighten(settings.trigger.end)
    return Backdoor(trigger, backdoor.rule)


def _folds(bank: MaskBank, model: nn.Module) -> bool:
    try:
        bank.fold(model)
    except ModelUnsuitable:
        return False
    return True
