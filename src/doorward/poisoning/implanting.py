"""Train a victim on poisoned data, and measure what came of it.

    result = implant(model, train, backdoor, recipe, rate=0.1, test=test)
    result.accuracy, result.attack_success, result.attack_interval

The training is `doorward.training.fit` on the poisoned view; nothing else is special about it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.metrics import attack_outcome, clopper_pearson, predict
from doorward.poisoning.poisoned import poison
from doorward.records import STRICT, Record
from doorward.training import FitResult, Recipe, fit
from doorward.triggers import Backdoor, LabelRule, Strength

__all__ = ["PoisonResult", "check_attack", "implant", "measured"]

Share = Annotated[float, Field(ge=0, le=1)]
_MEASURED = 256  # images that the trigger's strength is measured on


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PoisonResult(Record):
    """A poisoned victim.

    Attributes:
        accuracy: on the clean test set.
        attack_success: share of eligible triggered test images that get the attacker's label.
        attack_interval: exact 95 % confidence interval of `attack_success`.
        untriggered: share of the same images that get the attacker's label *without* the trigger;
            what of `attack_success` is no work of the trigger. None in older results.
        robust_accuracy: share of them that keep their true label.
        attack_images: how many test images were eligible.
        backdoor: trigger and label rule, as `Backdoor.to_dict` gives them.
        strength: how visible the trigger is on those images.
        rate: poison rate that was asked for.
        poisoned: number of training images that carry the trigger.
        seed: of the choice of images.
        fit: what the training of the victim did.
        details: what an attack of several phases says of itself: its constants, the history of all
            phases, and figures of its own.
    """

    accuracy: Share
    attack_success: Share
    attack_interval: tuple[Share, Share]
    robust_accuracy: Share
    attack_images: int
    backdoor: dict[str, Any]
    strength: Strength
    rate: Share
    poisoned: int
    seed: int
    fit: FitResult
    untriggered: Share | None = None
    details: dict[str, Any] = dataclasses.field(default_factory=dict)


def implant(
    model: nn.Module,
    source: ImageSource,
    backdoor: Backdoor,
    recipe: Recipe,
    *,
    rate: float,
    test: ImageSource,
    seed: int | None = None,
    **options: Any,
) -> PoisonResult:
    """Poison a training set, train a model on it in place, and measure the backdoor.

    Args:
        model: the victim, trained in place; a fresh model or one to fine-tune.
        source: clean training images.
        backdoor: trigger and label rule.
        recipe: how the victim trains; it knows nothing of the poison.
        rate: poison rate in (0, 1] (see `poison` for what it is a share of).
        test: clean test images, for accuracy and attack success.
        seed: decides which images are poisoned; the recipe's seed if None.
        options: further arguments of `doorward.training.fit` (device, checkpoint, progress, ...).

    Returns:
        Accuracy, attack success with its interval and what it is without the trigger, robust
        accuracy, trigger strength, and the training's own result.

    Raises:
        InvalidInput: the rate, rule or trigger does not fit the data, or no test image can show
            the attack; said before the training.
        ModelUnsuitable: the model does not take the images.
        TrainingDiverged: the loss became NaN or infinite, or exploded.

    >>> from torch import nn
    >>> from doorward.data import load
    >>> from doorward.triggers import AllToOne, Patch
    >>> model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    >>> result = implant(model, load("digits"), Backdoor(Patch(size=6), AllToOne(0)),
    ...                  Recipe(max_steps=30, lr=0.05), rate=0.1, test=load("digits", split="test"))
    >>> result.poisoned, result.attack_images
    (144, 323)
    """
    seed = recipe.seed if seed is None else seed
    check_attack(backdoor.rule, source, test)
    poisoned = poison(source, backdoor, rate=rate, seed=seed)
    fitted = fit(model, None, poisoned, recipe, **options)
    return measured(
        model, test, backdoor, rate=rate, poisoned=poisoned.count, seed=seed, fit=fitted
    )


def check_attack(rule: LabelRule, source: ImageSource, test: ImageSource) -> None:
    """Refuse, before the training, an attack that could not be measured after it.

    Raises:
        InvalidInput: the rule's classes do not exist, the sets have different image shapes, or no
            test image can show the attack.
    """
    rule.check(test.num_classes)
    if test.image_shape != source.image_shape:
        raise InvalidInput(
            f"test images are {test.image_shape}, training images {source.image_shape}",
            remedy="load both with the same size and channels",
        )
    if not bool(rule.eligible(test.labels.cpu()).any()):
        raise InvalidInput(
            f"no image of {test.name} can show this attack",
            why="every one already has the attacker's label, or is of no source class",
            remedy="test on a data set with other classes",
        )


def measured(
    model: nn.Module,
    test: ImageSource,
    backdoor: Backdoor,
    *,
    rate: float,
    poisoned: int,
    seed: int,
    fit: FitResult,
    details: Mapping[str, Any] | None = None,
) -> PoisonResult:
    """Measure a victim; rate, count, seed, training and details are only filed."""
    outcome = attack_outcome(model, test, backdoor)
    labels = test.labels.cpu()
    rows = backdoor.rule.eligible(labels).nonzero().squeeze(1)
    answers = predict(model, test).argmax(1)
    fooled = answers[rows] == backdoor.rule.labels(labels[rows])
    images, _ = test.fetch(rows[:: max(1, len(rows) // _MEASURED)][:_MEASURED])
    strength = backdoor.trigger.to(images.device).strength(to_pixels(images))
    hits = round(outcome.attack_success * outcome.images)
    return PoisonResult(
        accuracy=float((answers == labels).double().mean()),
        attack_success=outcome.attack_success,
        attack_interval=clopper_pearson(hits, outcome.images),
        untriggered=float(fooled.double().mean()),
        robust_accuracy=outcome.robust_accuracy,
        attack_images=outcome.images,
        backdoor=backdoor.to_dict(),
        strength=strength,
        rate=rate,
        poisoned=poisoned,
        seed=seed,
        fit=fit,
        details=dict(details or {}),
    )
