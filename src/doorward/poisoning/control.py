"""The innocent twin of a victim: how often does the trigger fool a model that was never poisoned?

    backdoor, result = plant(victim, train, "sig", recipe, target=3, test=test)
    twin = innocent_twin(fresh, train, backdoor, recipe, test=test)
    result.attack_success, twin.attack_success          # only the difference was planted

A filter or a strong wave sends some images to the target by itself, as any damage to an image does.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.metrics import accuracy, attack_outcome, clopper_pearson
from doorward.poisoning.implanting import check_attack
from doorward.records import STRICT, Record
from doorward.training import Recipe, fit
from doorward.triggers import Backdoor

__all__ = ["TwinResult", "innocent_twin"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwinResult(Record):
    """A model that saw clean images only, under the same trigger.

    Attributes:
        accuracy: on the clean test set.
        attack_success: share of the eligible triggered test images that get the attacker's label
            all the same.
        attack_interval: its exact 95 % confidence interval.
        seconds: of the training.
    """

    accuracy: Share
    attack_success: Share
    attack_interval: tuple[Share, Share]
    seconds: float


def innocent_twin(
    model: nn.Module,
    source: ImageSource,
    backdoor: Backdoor,
    recipe: Recipe,
    *,
    test: ImageSource,
    **options: Any,
) -> TwinResult:
    """Train a model on clean images, in place, and show it the trigger.

    Args:
        model: a fresh one like the victim.
        source: the victim's training images, without poison.
        backdoor: of the victim.
        recipe: of the victim.
        test: the victim's test images.
        options: further arguments of `doorward.training.fit`.

    Raises:
        InvalidInput: rule and images do not fit; said before the training.
        ModelUnsuitable: the model does not take the images.
        TrainingDiverged: the loss became NaN or infinite, or exploded.

    >>> from doorward.data import load
    >>> from doorward.triggers import AllToOne, Patch
    >>> digits, test = load("digits"), load("digits", split="test")
    >>> linear = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    >>> door = Backdoor(Patch(size=6), AllToOne(0))
    >>> twin = innocent_twin(linear, digits, door, Recipe(max_steps=30, lr=0.05), test=test)
    >>> twin.attack_success < 0.5 < twin.accuracy
    True
    """
    check_attack(backdoor.rule, source, test)
    fitted = fit(model, None, source, recipe, **options)
    outcome = attack_outcome(model, test, backdoor)
    hits = round(outcome.attack_success * outcome.images)
    return TwinResult(
        accuracy=accuracy(model, test),
        attack_success=outcome.attack_success,
        attack_interval=clopper_pearson(hits, outcome.images),
        seconds=fitted.seconds,
    )
