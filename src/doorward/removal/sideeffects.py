"""What a removal did to the task: a method with its paper's constants can ruin a model in silence.

    repaired, result = remove(model, clean, method)
    side_effects(model, repaired, method, clean).warnings

Papers' epochs are meant for thousands of images. On a hundred they are a handful of steps, and a
method that draws the head anew (FST, RTLL, RTAL) then leaves a model that has forgotten its task.
"""

from __future__ import annotations

import math

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.metrics import predict
from doorward.records import STRICT, Record
from doorward.removal.base import Labels, Removal

__all__ = ["FEW_STEPS", "MUCH_LOST", "SideEffects", "side_effects"]

FEW_STEPS = 100
"""Training steps below which a paper's constants are out of their depth; MESA's authors take 620,
FST's 200."""

MUCH_LOST = 5.0
"""Points of accuracy whose loss is worth a warning."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SideEffects(Record):
    """A repaired model beside the one that was given.

    Attributes:
        images: on how many images both were compared.
        data: name of their set.
        before: accuracy of the given model, in [0, 1]; 1 where its own answers are the labels.
        after: of the repaired one.
        steps: training steps of the method's main phase, where its fields tell them.
        warnings: what the user should know, in sentences.
    """

    images: int
    data: str
    before: float
    after: float
    steps: int | None
    warnings: tuple[str, ...]


def side_effects(
    model: nn.Module,
    repaired: nn.Module,
    method: Removal,
    clean: ImageData,
    *,
    labels: Labels = "given",
    test: ImageData | None = None,
) -> SideEffects:
    """Compare a repaired model with the given one on the task.

    Args:
        model: as it was given.
        repaired: what the method made of it.
        method: which.
        clean: the images that it worked with.
        labels: ``"given"``, or ``"model"`` to count agreement with the given model.
        test: other images to compare on; without them it is the clean ones, which flatters.

    >>> from doorward.data import load
    >>> from doorward.models import create
    >>> from doorward.removal.fst import FeatureShift
    >>> digits = load("digits").sample(60, seed=0).resized(16)
    >>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    >>> method = FeatureShift(epochs=2, batch_size=30)
    >>> found = side_effects(model, method(model, digits)[0], method, digits)
    >>> found.steps, found.warnings[0][:44]
    (4, 'Only 4 training steps on 60 images: the cons')
    """
    judged = clean if test is None else test
    old, new = (predict(net, judged).argmax(1) for net in (model, repaired))
    truth = old if labels == "model" and test is None else judged.labels.cpu()
    before, after = (float((answers == truth).double().mean()) for answers in (old, new))
    steps = _steps(method, len(clean))
    warnings = []
    if steps is not None and 0 < steps < FEW_STEPS:
        warnings.append(
            f"Only {steps} training steps on {len(clean)} images: the constants are the paper's, "
            "for thousands of images. Give more images, raise epochs or lower batch_size, or let "
            "a purge choose."
        )
    lost = 100 * (before - after)
    if lost > MUCH_LOST:
        warnings.append(
            f"{lost:.1f} points of accuracy are gone ({before:.1%} -> {after:.1%} on {judged.name}"
            "): this model is hardly of use. A purge keeps a budget of accuracy and undoes what "
            "costs more."
        )
    return SideEffects(
        images=len(judged),
        data=judged.name,
        before=before,
        after=after,
        steps=steps,
        warnings=tuple(warnings),
    )


def _steps(method: Removal, images: int) -> int | None:
    epochs: float | None = getattr(method, "epochs", None)
    batch: int | None = getattr(method, "batch_size", None)
    if epochs is None or batch is None:
        return None
    return round(epochs * math.ceil(images / batch))
