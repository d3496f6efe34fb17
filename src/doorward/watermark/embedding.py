"""Planting the mark: ordinary training, with a few triggers in every batch.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> from doorward.watermark.key import WatermarkKey
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> key = WatermarkKey.new(n=8, classes=10, image_shape=(1, 16, 16))
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> result = embed(model, digits, key, Recipe(epochs=1, batch_size=32))
>>> result.n, result.per_batch, 0 <= result.trigger_matches <= 8
(8, 8, True)

`embed` is both ways of Adi et al. (2018): into a fresh model, or into one that is trained already.
Other methods make the mark harder to remove; they are named, and take options (`EMBEDDINGS`):

>>> result = embed(model, digits, key, Recipe(epochs=1, batch_size=32), method="app", eps=0.05)
>>> result.method, result.options["eps"]
('app', 0.05)
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.metrics import accuracy, binomial_tail, binomial_tail_log2
from doorward.models import Classifier, require_model
from doorward.records import STRICT, Record
from doorward.training import FitResult, Recipe, fit, recipe_for
from doorward.watermark.methods import EMBEDDINGS, Embedding, make_embedding, name_of
from doorward.watermark.objective import (
    MarkObjective,
    pretrained_recipe,
    triggers_per_batch,
)
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import count_matches

__all__ = ["EmbedResult", "embed"]

Mode = Literal["from-scratch", "pretrained"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EmbedResult(Record):
    """What `embed` did.

    Attributes:
        mode: ``"from-scratch"`` or ``"pretrained"``.
        n: triggers of the key.
        classes: classes L of the key.
        per_batch: triggers appended to each batch of clean images.
        exposures: how often each trigger was seen, on average.
        accuracy: on `validation` after marking, in [0, 1]; None without validation data.
        accuracy_before: the same before marking (mode ``"pretrained"`` only).
        trigger_matches: triggers to which the marked model gives the key's label.
        p_value: probability of as many matches by chance; 0.0 below 5e-324.
        log2_p: its log2.
        recipe: what was trained.
        fit: the training run.
        method: how the triggers were learnt, a name of `EMBEDDINGS`.
        options: of the method.
    """

    mode: Mode
    n: int
    classes: int
    per_batch: int
    exposures: float
    accuracy: Annotated[float, Field(ge=0, le=1)] | None
    accuracy_before: Annotated[float, Field(ge=0, le=1)] | None
    trigger_matches: int
    p_value: float
    log2_p: float
    recipe: Recipe
    fit: FitResult
    method: str = "plain"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        make_embedding(self.method, self.options)  # raises InvalidInput

    @property
    def trigger_accuracy(self) -> float:
        """Share of the triggers that match, in [0, 1]."""
        return self.trigger_matches / self.n


def embed(
    model: nn.Module,
    source: ImageSource,
    key: TriggerSet,
    recipe: Recipe | None = None,
    *,
    mode: Mode = "from-scratch",
    method: str | Embedding = "plain",
    per_batch: int | Literal["auto"] = "auto",
    validation: ImageSource | None = None,
    **options: Any,
) -> EmbedResult:
    """Mark a model with a key.

    Args:
        model: changed in place. A fresh one for ``"from-scratch"``, a trained one for
            ``"pretrained"``.
        source: the task's training images, of the key's shape and number of classes.
        key: the owner's key.
        recipe: how to train. None means `training.recipe_for` this data and model from scratch,
            and `pretrained_recipe` of that for a trained model. A recipe of your own should have
            a warm-up or a clipped gradient: the paper's (lr 0.1 from the first step) ended in NaN
            in two of three public re-runs.
        mode: ``"from-scratch"`` or ``"pretrained"``. Adi et al. found
            marks from scratch harder to remove.
        method: how triggers are learnt: ``"plain"``, ``"app"``, ``"margin"``, ``"certified"``,
            ``"app-margin"`` or another name of `EMBEDDINGS`; or a method with its options.
        per_batch: triggers per batch of clean images. The paper's 2 shows each of 100 triggers 10
            times per epoch of 500 steps; ``"auto"`` is 2 where this suffices, and more for small
            data sets or short runs (see `triggers_per_batch`).
        validation: data to measure the accuracy on.
        options: of the method (``eps=0.05`` for ``"app"``), and of `training.fit` (device,
            devices, checkpoint, progress, ...).

    Returns:
        What was done, with accuracy, trigger matches and p-value of the marked model.

    Raises:
        UnknownName: there is no such method.
        InvalidInput: data, key, mode, `per_batch` or the options do not fit.
        ModelUnsuitable: the model does not take these images or has other classes.
        TrainingDiverged: the recipe is unstable.

    Adi et al. (2018): both modes, the mixed batch and its loss as in the authors' code. Ours: the
    keyed triggers, the automatic k, the recipe for trained models (theirs came out of a resumed
    epoch counter), no random start within the trigger order.
    """
    _check(model, source, key, mode)
    embedding, fit_options = _sorted(method, options)
    before = None
    if mode == "pretrained" and validation is not None:
        before = accuracy(model, validation)
    if recipe is None:
        architecture = model.architecture if isinstance(model, Classifier) else "custom"
        recipe = recipe_for(source.name, architecture)
        if mode == "pretrained":
            recipe = pretrained_recipe(recipe, images=len(source), n=key.n)
    if embedding.batchnorm == "clean" and recipe.batchnorm == "train":
        recipe = dataclasses.replace(recipe, batchnorm="clean-only")
    steps = recipe.steps(len(source))
    k = per_batch
    if k == "auto":
        k = triggers_per_batch(key.n, steps, recipe.batch_size, embedding.exposures)
    objective = MarkObjective(
        key,
        k,
        seed=recipe.seed,
        label_smoothing=recipe.label_smoothing,
        method=embedding,
        steps=steps,
    )
    run = fit(model, objective, source, recipe, validation=validation, **fit_options)
    matches = count_matches(key, model)
    return EmbedResult(
        mode=mode,
        n=key.n,
        classes=key.classes,
        per_batch=k,
        exposures=steps * k / key.n,
        accuracy=None if validation is None else accuracy(model, validation),
        accuracy_before=before,
        trigger_matches=matches,
        p_value=binomial_tail(matches, key.n, 1 / key.classes),
        log2_p=binomial_tail_log2(matches, key.n, 1 / key.classes),
        recipe=recipe,
        fit=run,
        method=name_of(embedding),
        options=embedding.to_dict(),
    )


def _sorted(method: str | Embedding, options: dict[str, Any]) -> tuple[Embedding, dict[str, Any]]:
    """The method, and what of the options is `fit`'s."""
    kind = type(method) if isinstance(method, Embedding) else EMBEDDINGS[method]
    own = {each.name for each in dataclasses.fields(kind)}
    of_fit = set(list(inspect.signature(fit).parameters)[4:])
    unknown = sorted(set(options) - own - of_fit)
    if unknown:
        raise InvalidInput(
            f"there is no option {unknown[0]!r}",
            why=f"the method has {', '.join(sorted(own))}",
            remedy=f"choose among these, or those of training: {', '.join(sorted(of_fit))}",
        )
    embedding = make_embedding(method, {k: v for k, v in options.items() if k in own})
    return embedding, {k: v for k, v in options.items() if k not in own}


def _check(model: nn.Module, source: ImageSource, key: TriggerSet, mode: str) -> None:
    if mode not in ("from-scratch", "pretrained"):
        raise InvalidInput(
            f"mode {mode!r} is unknown", remedy="choose 'from-scratch' or 'pretrained'"
        )
    if source.image_shape != key.image_shape or source.num_classes != key.classes:
        raise InvalidInput(
            f"the key is for {key.classes} classes of images {key.image_shape}",
            why=f"{source.name} has {source.num_classes} classes of images {source.image_shape}",
            remedy="make a key with the data set's classes and image shape",
        )
    require_model(model, input_shape=key.image_shape, classes=key.classes, head=False)
