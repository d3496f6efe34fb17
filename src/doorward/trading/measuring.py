"""How well a lock holds and opens: trial and unlocked model on clean and on triggered images.

::

    outcome = measure_lock(trial, bank.apply(trial), test, backdoor)
    outcome.trial_attack_success, outcome.unlocked_attack_success, outcome.restored_accuracy
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.metrics import (
    AttackOutcome,
    accuracy,
    attack_outcome,
    binomial_tail,
    clopper_pearson,
    predict,
)
from doorward.records import STRICT, Record
from doorward.triggers import Backdoor, Strength

__all__ = ["Acceptance", "LockOutcome", "acceptance_test", "measure_lock", "trigger_strength"]

Share = Annotated[float, Field(ge=0, le=1)]
_MEASURED = 256  # images that the trigger's strength is measured on


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LockOutcome(Record):
    """Trial and unlocked model on test images.

    Attributes:
        trial_accuracy: of the trial model on clean images.
        trial_attack_success: share of eligible triggered images that get the target from it.
        unlocked_accuracy: of the unlocked model on clean images.
        unlocked_attack_success: share of eligible triggered images that still get the target.
        unlocked_interval: exact 95 % confidence interval of that.
        restored_accuracy: share of them that the unlocked model classifies rightly.
        unlocked_eligible_accuracy: its accuracy on the same images without the trigger, which
            `restored_accuracy` is to be compared with.
        attack_images: how many images were eligible.
    """

    trial_accuracy: Share
    trial_attack_success: Share
    unlocked_accuracy: Share
    unlocked_attack_success: Share
    unlocked_interval: tuple[Share, Share]
    restored_accuracy: Share
    unlocked_eligible_accuracy: Share
    attack_images: Annotated[int, Field(ge=1)]


def measure_lock(
    trial: nn.Module, unlocked: nn.Module, test: ImageSource, backdoor: Backdoor
) -> LockOutcome:
    """Both models on clean and on triggered test images.

    Args:
        trial: the model as it is given away.
        unlocked: the same under its masks, applied or folded.
        test: clean images with their true labels.
        backdoor: trigger and label rule.

    Raises:
        InvalidInput: no image can show the attack.
        ModelUnsuitable: a model's outputs are no finite logits.
    """
    locked, opened = (attack_outcome(model, test, backdoor) for model in (trial, unlocked))
    truth = test.labels.cpu()
    right = (predict(unlocked, test).argmax(1) == truth).double()
    hits = round(opened.attack_success * opened.images)
    return LockOutcome(
        trial_accuracy=accuracy(trial, test),
        trial_attack_success=locked.attack_success,
        unlocked_accuracy=float(right.mean()),
        unlocked_attack_success=opened.attack_success,
        unlocked_interval=clopper_pearson(hits, opened.images),
        restored_accuracy=opened.robust_accuracy,
        unlocked_eligible_accuracy=float(right[backdoor.rule.eligible(truth)].mean()),
        attack_images=opened.images,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Acceptance(Record):
    """The buyer's test of an unlocked model.

    Attributes:
        right: right answers to clean images, of how many.
        attack: triggered images that still give the target, of how many eligible ones.
        interval: exact 95 % confidence interval of that share.
        restored: triggered images that are classified rightly, of the same.
        trial_attack: triggered images that give the target on the trial itself, if it was given.
        bound: the promise: the trigger works on at most this share.
        alpha: how rare a count must be under the promise to refute it.
        p_value: of so many working triggers or more if the promise just held (exact binomial).
        accepted: whether the promise is not refuted.
    """

    right: tuple[int, int]
    attack: tuple[int, int]
    interval: tuple[Share, Share]
    restored: tuple[int, int]
    trial_attack: tuple[int, int] | None = None
    bound: Annotated[float, Field(gt=0, lt=1)]
    alpha: Annotated[float, Field(gt=0, le=0.1)]
    p_value: Share
    accepted: bool


def acceptance_test(
    unlocked: nn.Module,
    test: ImageSource,
    backdoor: Backdoor,
    *,
    bound: float,
    alpha: float = 0.01,
    trial: nn.Module | None = None,
) -> Acceptance:
    """Count what the trigger still does to an unlocked model, against what was promised.

    The buyer runs it with the trigger that was revealed with the key. An honest seller fails it
    with a chance of at most `alpha`. A revealed trigger that does nothing on the trial either is
    not the one that was built in: give the trial to see that.

    Args:
        unlocked: the model under its masks.
        test: clean images with their true labels, of the buyer's own choice.
        backdoor: from the opened key.
        bound: promised: the trigger works on at most this share of images, in (0, 1).
        alpha: level of the test, in (0, 0.1].
        trial: the model without masks, to count what the revealed trigger does on it.

    Raises:
        InvalidInput: bound or level is out of range, or no image can show the attack.
        ModelUnsuitable: the model's outputs are no finite logits.
    """
    if not 0 < bound < 1 or not 0 < alpha <= 0.1:
        raise InvalidInput(
            f"a bound of {bound:g} at level {alpha:g}",
            why="the bound lies between 0 and 1, the level is at most 0.1",
        )
    outcome = attack_outcome(unlocked, test, backdoor)
    hits, images = _hits(outcome)
    chance = binomial_tail(hits, images, bound)
    return Acceptance(
        right=(round(accuracy(unlocked, test) * len(test)), len(test)),
        attack=(hits, images),
        interval=clopper_pearson(hits, images),
        restored=(round(outcome.robust_accuracy * images), images),
        trial_attack=None if trial is None else _hits(attack_outcome(trial, test, backdoor)),
        bound=bound,
        alpha=alpha,
        p_value=min(1.0, chance),
        accepted=chance > alpha,
    )


def trigger_strength(test: ImageSource, backdoor: Backdoor) -> Strength:
    """How visible the trigger is on eligible test images."""
    rows = backdoor.rule.eligible(test.labels.cpu()).nonzero().squeeze(1)
    images, _ = test.fetch(rows[:: max(1, len(rows) // _MEASURED)][:_MEASURED])
    return backdoor.trigger.to(images.device).strength(to_pixels(images))


def _hits(outcome: AttackOutcome) -> tuple[int, int]:
    return round(outcome.attack_success * outcome.images), outcome.images
