"""Marked copies of one trained model, one for each buyer, in seconds each.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.watermark.key import WatermarkKey
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> base = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> code = TracingCode(WatermarkKey.new(n=20, image_shape=(1, 16, 16)), bits=8)
>>> recipe = Recipe(max_steps=2, batch_size=32)
>>> for copy in mark_copies(base, digits, code, [7, 11], recipe, per_batch=10):
...     print(copy.result.payload, copy.result.embedding.n, copy.model is base)
7 20 False
11 20 False

Every copy is a short training of its own from the same weights (`doorward.watermark.embed`, into a
trained model), in which only the labels of the triggers differ. It has the form of the training
before it, on augmented images, and that is what makes it last: in first trials, copies that learnt
from the trained model's stored answers to a few unchanged images lost more than half of their mark
when they were fine-tuned on augmented ones.
"""

from __future__ import annotations

import copy as copying
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.metrics import accuracy
from doorward.models import require_model
from doorward.randomness import derive_seed
from doorward.records import STRICT, Record
from doorward.training import Recipe
from doorward.watermark.embedding import EmbedResult, embed
from doorward.watermark.methods import Embedding
from doorward.watermark.tracing.code import TracingCode
from doorward.watermark.tracing.evidence import log2_best_of
from doorward.watermark.tracing.mark import BuyerMark
from doorward.watermark.tracing.register import Payload
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import count_matches

__all__ = ["Copy", "CopyResult", "copy_recipe", "mark_copies"]

EVERY = 3
"""Each trigger is shown in every so manieth step of a copy's training."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CopyResult(Record):
    """What marking one copy did.

    Attributes:
        payload: of the copy.
        matches: triggers to which the copy gives the payload's label.
        log2_p: log2 of the p-value that a trace of this copy would have, all payloads paid for.
        kept: for each mark that was to be kept, the triggers that still match.
        embedding: the training, with accuracy before and after. Its triggers are those of the
            buyer's mark and of the marks to keep.
    """

    payload: Payload
    matches: int
    log2_p: float
    kept: tuple[int, ...]
    embedding: EmbedResult


class Copy(NamedTuple):
    """A copy with its mark."""

    mark: BuyerMark
    model: nn.Module
    result: CopyResult


def copy_recipe(trained_with: Recipe) -> Recipe:
    """The training of a copy, after the recipe that the model was trained with.

    A hundred steps of 96 images at a sixth of the learning rate, up and down again in one cycle,
    with BatchNorm statistics from clean images. Chosen in first trials with a narrow ResNet-8 on
    CIFAR-10 (one seed): larger rates and more triggers per step taught the last tenth of the
    triggers, which tracing does not need, and cost more accuracy; smaller ones left too many
    unlearnt. What copies cost and withstand is in the study ``watermark-tracing``.

    >>> copy_recipe(Recipe(lr=0.4)).max_steps
    100
    """
    return dataclasses.replace(
        trained_with,
        epochs=1e6,  # the steps decide
        max_steps=100,
        batch_size=96,
        lr=trained_with.lr / 6,
        schedule="onecycle",
        warmup=None,
        batchnorm="clean-only" if trained_with.batchnorm == "train" else trained_with.batchnorm,
    )


def mark_copies(
    base: nn.Module,
    source: ImageSource,
    code: TracingCode,
    payloads: Iterable[int],
    recipe: Recipe,
    *,
    method: str | Embedding = "plain",
    per_batch: int | None = None,
    keep: Sequence[TriggerSet] = (),
    validation: ImageSource | None = None,
    **options: Any,
) -> Iterator[Copy]:
    """Make a marked copy of a trained model for each payload.

    Args:
        base: the trained model; it is not changed.
        source: labelled images of its task, of the key's shape; a part of the training set will
            do.
        code: the tracing key and the length of payloads.
        payloads: one for each copy; draw them with `Register.sell`.
        recipe: how to train each copy; usually `copy_recipe`. Each copy has its own order of
            images, derived from ``recipe.seed`` and the payload.
        method: how triggers are learnt, as in `embed`.
        per_batch: triggers per step, those of marks to keep included; None for a third of all.
        keep: other marks in `base` that the copies shall keep, for example the owner's key: their
            triggers are shown along with the buyer's.
        validation: labelled images to measure accuracy on (each copy costs a pass over them).
        options: of the method and of `training.fit`, as in `embed`.

    Yields:
        Each copy as soon as it is made, so that only those you hold are in memory.

    Raises:
        InvalidInput: images, key or `per_batch` do not fit, or there is no such payload (said when
            its turn comes).
        ModelUnsuitable: the model does not take the images or has other classes.
        TrainingDiverged: the recipe is unstable.

    Ours; Adi et al. (2018) mark each model by a training of its own, and carry no message.
    """
    _check(base, source, code, keep)
    n = code.key.n + sum(mark.n for mark in keep)
    shown = math.ceil(n / EVERY) if per_batch is None else per_batch
    if not 1 <= shown <= n:
        raise InvalidInput(f"{shown} triggers per batch", why=f"there are {n} in all")
    before = None if validation is None else accuracy(base, validation)

    def mark(payload: int) -> Copy:
        own = BuyerMark(code, payload)
        model = copying.deepcopy(base)
        done = embed(
            model,
            source,
            _Together([own, *keep]) if keep else own,
            dataclasses.replace(recipe, seed=derive_seed(recipe.seed, "copy", payload)),
            mode="pretrained",
            method=method,
            per_batch=shown,
            **options,
        )
        done = dataclasses.replace(  # the accuracy of `base` is measured once, not for every copy
            done,
            accuracy=None if validation is None else accuracy(model, validation),
            accuracy_before=before,
        )
        matches = done.trigger_matches if not keep else count_matches(own, model)
        result = CopyResult(
            payload=payload,
            matches=matches,
            log2_p=log2_best_of(1 << code.bits, matches, own.n, own.classes),
            kept=tuple(count_matches(other, model) for other in keep),
            embedding=done,
        )
        return Copy(own, model, result)

    return map(mark, payloads)


class _Together:
    """Several marks as one set of triggers."""

    def __init__(self, marks: Sequence[TriggerSet]) -> None:
        self._marks = marks
        self.n = sum(mark.n for mark in marks)
        self.classes, self.image_shape = marks[0].classes, marks[0].image_shape

    def triggers(self) -> tuple[Tensor, Tensor]:
        images, labels = zip(*(mark.triggers() for mark in self._marks), strict=True)
        return torch.cat(images), torch.cat(labels)

    def commitment(self) -> str:
        return " ".join(mark.commitment() for mark in self._marks)


def _check(
    base: nn.Module, source: ImageSource, code: TracingCode, keep: Sequence[TriggerSet]
) -> None:
    for what, shape, classes in [
        (source.name, source.image_shape, source.num_classes),
        *(("a mark to keep", mark.image_shape, mark.classes) for mark in keep),
    ]:
        if tuple(shape) != tuple(code.key.image_shape) or classes != code.key.classes:
            raise InvalidInput(
                f"the key is for {code.key.classes} classes of images {code.key.image_shape}",
                why=f"{what} has {classes} classes of images {tuple(shape)}",
                remedy="make a tracing key with the model's classes and image shape",
            )
    require_model(base, input_shape=code.key.image_shape, classes=code.key.classes, head=False)
