"""Stealing a model: questions within a budget, a substitute, and how close it comes.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> victim = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> pool, test = (load("digits", split=split, size=16) for split in ("train", "test"))
>>> substitute, result = steal(victim, pool, budget=100, substitute="resnet8",
...                            options={"width": 4}, recipe=Recipe(epochs=1), validation=test)
>>> result.queries, result.method, 0 <= result.agreement <= 1
(100, 'knockoff-random', True)

This serves to test one's own models: whether a watermark survives the theft, and whether a
honeypot catches the thief.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from doorward.bundles import open_black_box
from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput, UnknownName
from doorward.extraction.answers import Answers
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft, default_recipe, pool_order
from doorward.extraction.measuring import compare
from doorward.extraction.results import StealResult
from doorward.extraction.victim import Victim
from doorward.models import create, require_model
from doorward.records import measure
from doorward.training import Recipe, fit

__all__ = ["steal"]

_OURS = ("model", "objective", "source", "recipe", "validation", "checkpoint")  # arguments of fit


def steal(
    victim: object,
    pool: ImageSource,
    *,
    budget: int,
    method: str | Extraction = "knockoff-random",
    answers: str | Answers = "soft",
    substitute: str | nn.Module = "resnet8",
    options: Mapping[str, Any] | None = None,
    num_classes: int | None = None,
    recipe: Recipe | None = None,
    seed: int = 0,
    validation: ImageSource | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    **fit_options: Any,
) -> tuple[nn.Module, StealResult]:
    """Train a substitute of a model that only answers.

    Args:
        victim: a module, black box or function; a bundle, ONNX file or http(s) address.
        pool: images to ask about, of the size that the victim takes; their labels are not used.
            Another data set, a folder, or `procedural_pool`.
        budget: how many images may be sent, in all resumed runs together.
        method: a name in `EXTRACTIONS`, or a record with parameters of your own.
        answers: what of the victim's answers is seen: ``soft``, ``label``, ``top-5``,
            ``rounded-2``; a module is made to answer like a poorer service this way.
        substitute: an architecture of the zoo, or a module, which is trained in place.
        options: of the architecture, e.g. ``{"width": 16}``.
        num_classes: K, for victims that give labels and do not say how many.
        recipe: how the substitute is trained; None for `default_recipe`.
        seed: of the substitute's weights, the choice of images and, without a recipe of your own,
            the training.
        validation: labelled images of the victim's task, to measure on. None to measure nothing.
        checkpoint: folder that keeps answers and trainings: a theft that was killed, or cut off by
            its victim, goes on from there, and asks nothing twice.
        fit_options: passed on to `training.fit` (device, progress, ...). With ``resume=False`` the
            substitute is trained anew, on the answers that were kept.

    Returns:
        The substitute in evaluation mode, and what it took.

    Raises:
        InvalidInput: an argument does not fit, or the folder belongs to another theft.
        UnknownName: there is no such method or architecture.
        ModelUnsuitable: the victim takes no such images, or gives labels where probabilities are
            wanted; or the substitute has other classes.
        EndpointFailed: the victim's server failed for good; run it again to go on.
        TrainingDiverged, TrainingInterrupted, StorageFailed, BadFile: as `training.fit`.
    """
    attack, name = _attack(method)
    folder = None if checkpoint is None else Path(checkpoint)
    mode = Answers.of(answers)
    _check(attack, name, mode, pool, validation)
    _check_options(fit_options)
    box = open_black_box(victim)
    asked = Victim(box, mode, budget=budget, folder=_inside(folder, "answers"))
    classes = _classes(asked, pool, num_classes, seed)
    if validation is not None and validation.num_classes != len(classes):
        raise InvalidInput(
            f"{validation.name} has {validation.num_classes} classes",
            why=f"the victim has {len(classes)}",
            remedy="measure on images of the victim's task",
        )
    model = _substitute(substitute, options, classes, pool.image_shape, seed)
    side = min(pool.image_shape[1:])
    architecture = str(getattr(model, "architecture", "custom"))
    recipe = recipe or default_recipe(
        min(budget, len(pool)), side, architecture=architecture, seed=seed
    )
    theft = Theft(
        victim=asked,
        pool=pool,
        model=model,
        recipe=recipe,
        seed=seed,
        classes=classes,
        folder=_inside(folder, "trainings"),
        fit_options=fit_options,
    )
    with measure() as meter:
        fitted = attack.run(theft)
    figures = compare(model, box, validation, _inside(folder, "validation"))
    return model.eval(), StealResult(
        method=name,
        parameters=attack.to_dict(),
        victim=dict(box.describe()),
        answers=str(mode),
        pool=pool.name,
        budget=budget,
        queries=asked.spent,
        transfer_images=theft.transfer_images,
        **figures,
        seed=seed,
        seconds=meter.seconds,
        victim_seconds=asked.seconds,
        recipe=recipe,
        fit=fitted,
    )


def _attack(method: str | Extraction) -> tuple[Extraction, str]:
    if isinstance(method, str):
        return EXTRACTIONS[method](), method
    names = [name for name in EXTRACTIONS if EXTRACTIONS[name] is type(method)]
    return method, names[0] if names else type(method).__name__


def _inside(folder: Path | None, name: str) -> Path | None:
    return None if folder is None else folder / name


def _check(
    attack: Extraction, name: str, mode: Answers, pool: ImageSource, validation: ImageSource | None
) -> None:
    if attack.needs == "soft" and not mode.soft:
        raise InvalidInput(
            f"{name} needs probabilities", why="answers are labels", remedy="take another method"
        )
    if len(pool) == 0:
        raise InvalidInput(f"the pool {pool.name} has no images")
    if validation is not None and validation.image_shape != pool.image_shape:
        raise InvalidInput(
            f"validation images are {validation.image_shape}",
            why=f"those of the pool are {pool.image_shape}",
            remedy="load both with the size and channels that the victim takes",
        )


def _check_options(options: Mapping[str, Any]) -> None:
    """Refuse before the first question what `fit` would refuse after the last."""
    known = [name for name in inspect.signature(fit).parameters if name not in _OURS]
    for name in options:
        if name not in known:
            raise UnknownName.of("option of a training", name, known)
    if options.get("devices", 1) != 1 or options.get("nodes", 1) != 1:
        raise InvalidInput(
            "a theft runs in one process", why="each process would ask the victim by itself"
        )


def _classes(
    asked: Victim, pool: ImageSource, num_classes: int | None, seed: int
) -> tuple[str, ...]:
    """Names of the victim's classes: its own, or numbers. A first question shows how many."""
    if asked.num_classes is None and asked.answers.soft:
        first = pool_order(pool, seed)[:1]  # counted and remembered, as every question is
        asked.ask(to_pixels(pool.fetch(first)[0]))
    known = asked.num_classes
    if known is not None and num_classes not in (None, known):
        raise InvalidInput(f"num_classes={num_classes}", why=f"the victim has {known} classes")
    known = known or num_classes
    if known is None:
        raise InvalidInput(
            "how many classes the victim has is not known",
            why="it answers with labels and does not say",
            remedy="give num_classes",
        )
    if known < 2:
        raise InvalidInput(f"the victim has {known} class", why="there is nothing to steal")
    names = getattr(getattr(asked.box, "model", None), "classes", None)
    if isinstance(names, tuple) and len(names) == known:
        return names
    return tuple(str(number) for number in range(known))


def _substitute(
    given: str | nn.Module,
    options: Mapping[str, Any] | None,
    classes: tuple[str, ...],
    shape: tuple[int, int, int],
    seed: int,
) -> nn.Module:
    if isinstance(given, str):
        return create(given, classes=classes, input_shape=shape, seed=seed, **(options or {}))
    if options:
        raise InvalidInput(
            "options were given with a module", why="they are of architectures of the zoo"
        )
    require_model(given, input_shape=shape, classes=len(classes), head=False)
    return given
