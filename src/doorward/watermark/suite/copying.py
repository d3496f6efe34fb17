"""Attacks that copy the function and leave the weights behind: distillation and extraction.

>>> from doorward.watermark.suite.attack import ATTACKS
>>> [name for name in ("distillation", "extraction") if name in ATTACKS]
['distillation', 'extraction']
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from doorward.extraction import LiveDistillation, steal
from doorward.models import ARCHITECTURES, Classifier, create
from doorward.randomness import derive_seed
from doorward.training import fit
from doorward.watermark.suite.attack import ATTACKS, Struck, Thief
from doorward.watermark.triggerset import TriggerSet

__all__ = ["distillation", "extraction"]


@ATTACKS.register("distillation", paper="Hinton et al. 2015; Lukas et al. 2022")
def distillation(
    model: nn.Module,
    mark: TriggerSet,
    thief: Thief,
    *,
    temperature: float = 3.0,
    alpha: float = 1.0,
    architecture: str | None = None,
) -> Struck:
    """Train a new network, by the thief's recipe, to answer like the marked one.

    Args:
        model: marked; not changed.
        mark: gives the image shape and the number of classes.
        thief: its images, as they are augmented, are what the two are compared on.
        temperature: T of the softened answers.
        alpha: weight of the imitation; the rest is the true labels'.
        architecture: of the student; None means the marked model's own, or resnet8 if that is
            not of the zoo.
    """
    student = _fresh(model, mark, thief, architecture)
    recipe = dataclasses.replace(thief.recipe, seed=derive_seed(thief.seed, "distillation"))
    objective = LiveDistillation(model, temperature=temperature, alpha=alpha)
    run = fit(student, objective, thief.data, recipe, device=thief.device)
    return Struck(student, student, facts={"agreement": run.final.get("agreement")})


@ATTACKS.register("extraction", paper="Orekondy et al. 2019, KnockoffNets")
def extraction(
    model: nn.Module,
    mark: TriggerSet,
    thief: Thief,
    *,
    answers: str = "soft",
    budget: int | None = None,
    method: str = "knockoff-random",
    architecture: str | None = None,
) -> Struck:
    """Steal the model through its answers alone (`doorward.extraction.steal`).

    Args:
        model: marked; not changed.
        mark: gives the image shape and the number of classes.
        thief: asks about its pool, or its data, and trains by its recipe.
        answers: what it sees: ``soft``, ``label``, ``top-5``, ``rounded-2``.
        budget: queries; None means one for each image of the pool.
        method: a name in `doorward.extraction.EXTRACTIONS`.
        architecture: of the substitute; None as in `distillation`.
    """
    pool = thief.data if thief.pool is None else thief.pool
    substitute, result = steal(
        model,
        pool,
        budget=len(pool) if budget is None else budget,
        method=method,
        answers=answers,
        num_classes=mark.classes,  # labels alone do not show it
        substitute=_fresh(model, mark, thief, architecture),
        recipe=dataclasses.replace(thief.recipe, seed=derive_seed(thief.seed, "extraction")),
        seed=thief.seed,
        device=thief.device,
    )
    facts: dict[str, Any] = {"queries": result.queries, "answers": result.answers}
    return Struck(substitute, substitute, facts=facts)


def _fresh(
    model: nn.Module, mark: TriggerSet, thief: Thief, architecture: str | None
) -> Classifier:
    seed = derive_seed(thief.seed, "copy")
    if (
        architecture is None
        and isinstance(model, Classifier)
        and model.architecture in ARCHITECTURES
    ):
        return create(
            model.architecture,
            classes=model.classes,
            input_shape=mark.image_shape,
            mean=model.mean,
            std=model.std,
            seed=seed,
            **model.options,
        )
    return create(
        architecture or "resnet8",
        classes=thief.data.classes,
        input_shape=mark.image_shape,
        seed=seed,
    )
