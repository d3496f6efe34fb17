"""Ownership piracy: a second owner embeds a mark of their own over the first.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> from doorward.watermark.adi.key import PaperKey
>>> digits = load("digits").sample(40, seed=0).resized(16)
>>> marked = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> first, second = (PaperKey.new(n=5, classes=10, image_shape=(1, 16, 16)) for _ in range(2))
>>> recipe = Recipe(epochs=1, batch_size=20, lr=0.01)
>>> pirated, result = overwrite(marked, digits, second, recipe, first_key=first)
>>> result.second.mode, result.first_before is not None, result.first_after is not None
('pretrained', True, True)

In the paper the first mark stays and the second is the more fragile one: after FTAL or RTAL the
first owner's trigger accuracy even rises, the second's falls, which speaks for who was first.
"""

from __future__ import annotations

import copy
from typing import Any

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.records import STRICT, Record
from doorward.training import Recipe
from doorward.watermark.adi.answers import matches_and_chance
from doorward.watermark.adi.marking import PER_BATCH, paper_mark
from doorward.watermark.embedding import EmbedResult
from doorward.watermark.triggerset import TriggerSet

__all__ = ["OverwriteResult", "overwrite"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class OverwriteResult(Record):
    """What `overwrite` did.

    Attributes:
        second: the embedding of the second mark.
        first_before: triggers of the first key that matched before; None without that key.
        first_after: the same afterwards.
        first_log2_p: log2 of the p-value of `first_after`.
    """

    second: EmbedResult
    first_before: int | None
    first_after: int | None
    first_log2_p: float | None


def overwrite(
    model: nn.Module,
    source: ImageSource,
    second_key: TriggerSet,
    recipe: Recipe | None = None,
    *,
    first_key: TriggerSet | None = None,
    per_batch: int = PER_BATCH,
    validation: ImageSource | None = None,
    **fit_options: Any,
) -> tuple[nn.Module, OverwriteResult]:
    """Mark a copy of a marked model with a second key, as a trained model is marked.

    Args:
        model: carries the first mark; it is not changed.
        source: the pirate's images of the task.
        second_key: the pirate's.
        recipe: an equal budget means as many epochs as the first marking had; None for
            `paper_pretrained_recipe`, whose rates are small. A stronger pirate takes the first
            marking's own recipe.
        first_key: the first owner's, to see what became of their mark.
        per_batch: triggers per batch.
        validation: data to measure the accuracy on.
        fit_options: passed on to `training.fit`.

    Returns:
        The pirated model, and what was found.

    Raises:
        InvalidInput, ModelUnsuitable, TrainingDiverged: as `embed`.
    """
    before = None if first_key is None else matches_and_chance(first_key, model)[0]
    pirated = copy.deepcopy(model)
    second = paper_mark(
        pirated,
        source,
        second_key,
        recipe,
        mode="pretrained",
        per_batch=per_batch,
        validation=validation,
        **fit_options,
    )
    after, log2_p = (None, None) if first_key is None else matches_and_chance(first_key, pirated)
    return pirated, OverwriteResult(
        second=second, first_before=before, first_after=after, first_log2_p=log2_p
    )
