"""How a model stands to a backdoor: attack success, robust accuracy, and a defence's gain.

``attack_success(model, test_set, backdoor)`` is the share of triggered images that get the
attacker's label; ``robust_accuracy`` the share that keep their own. Images that already belong
to the attacker's target are never counted.

>>> der(accuracy_before=0.92, accuracy_after=0.90, attack_before=1.0, attack_after=0.02)
0.98
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.metrics.predictions import device_of, predict_batches
from doorward.records import STRICT, Record

if TYPE_CHECKING:
    from doorward.data import ImageSource
    from doorward.triggers import Backdoor

__all__ = ["AttackOutcome", "attack_outcome", "attack_success", "der", "robust_accuracy"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackOutcome(Record):
    """What a model answers to triggered images.

    Attributes:
        attack_success: share of the images that get the attacker's label.
        robust_accuracy: share of the images that keep their true label.
        images: how many images were eligible, so that an interval can be given.
    """

    attack_success: Share
    robust_accuracy: Share
    images: Annotated[int, Field(ge=1)]


def attack_outcome(
    model: nn.Module, source: ImageSource, backdoor: Backdoor, *, batch_size: int = 512
) -> AttackOutcome:
    """Attack success and robust accuracy in one pass over the triggered images.

    Args:
        model: maps float images (B, C, H, W) in [0, 1] to logits (B, K).
        source: clean images with their true labels, usually the test split.
        backdoor: trigger and label rule; the rule says which images count. The trigger is moved
            to the model's device.
        batch_size: images per forward pass.

    Raises:
        InvalidInput: the rule's classes do not exist, or no image of the data set counts.
        ModelUnsuitable: the model's outputs are no finite logits.
    """
    backdoor.rule.check(source.num_classes)
    labels, device = source.labels.cpu(), device_of(model)
    trigger = backdoor.trigger.to(device)
    rows = backdoor.rule.eligible(labels).nonzero().squeeze(1)
    if not len(rows):
        raise InvalidInput(
            f"no image of {source.name!r} can show this attack",
            why="every one already has the attacker's label, or is of no source class",
            remedy="measure on a data set with other classes",
        )

    def triggered(batch: Tensor) -> Tensor:
        images, _ = source.fetch(rows[batch])
        result: Tensor = trigger(images.to(device).float() / 255)
        return result

    truth = labels[rows]
    answers = predict_batches(model, len(rows), triggered, batch_size).argmax(1)
    return AttackOutcome(
        attack_success=float((answers == backdoor.rule.labels(truth)).double().mean()),
        robust_accuracy=float((answers == truth).double().mean()),
        images=len(rows),
    )


def attack_success(
    model: nn.Module, source: ImageSource, backdoor: Backdoor, *, batch_size: int = 512
) -> float:
    """Share of eligible triggered images that get the attacker's label (see `attack_outcome`)."""
    return attack_outcome(model, source, backdoor, batch_size=batch_size).attack_success


def robust_accuracy(
    model: nn.Module, source: ImageSource, backdoor: Backdoor, *, batch_size: int = 512
) -> float:
    """Share of eligible triggered images that keep their true label (see `attack_outcome`)."""
    return attack_outcome(model, source, backdoor, batch_size=batch_size).robust_accuracy


def der(
    *, accuracy_before: float, accuracy_after: float, attack_before: float, attack_after: float
) -> float:
    """Defence effectiveness rating: ``(max(0, dASR) - max(0, dACC) + 1) / 2``, in [0, 1].

    The measure of BackdoorBench: dASR and dACC are the drops of attack success and of clean
    accuracy that the defence caused. 1 is a perfect defence, 0.5 one that changes nothing, less
    one that only costs accuracy.

    Args:
        accuracy_before: clean accuracy of the attacked model, in [0, 1].
        accuracy_after: clean accuracy after the defence, in [0, 1].
        attack_before: attack success against the attacked model, in [0, 1].
        attack_after: attack success after the defence, in [0, 1].

    Raises:
        InvalidInput: a value is outside [0, 1] (per cent, perhaps).
    """
    for value in (accuracy_before, accuracy_after, attack_before, attack_after):
        if not 0 <= value <= 1:
            raise InvalidInput(f"{value} is not a share", why="shares lie between 0 and 1")
    gain = max(0.0, attack_before - attack_after)
    cost = max(0.0, accuracy_before - accuracy_after)
    return (gain - cost + 1) / 2
