"""Learning rates as pure functions of the step, so that resuming needs no scheduler state.

>>> from doorward.training.recipe import Recipe
>>> rate = learning_rate(Recipe(lr=1.0, schedule="onecycle", warmup=0.5), steps=4)
>>> [round(rate(step), 3) for step in range(4)]
[0.52, 1.0, 1.0, 0.5]
"""

from __future__ import annotations

import math
from collections.abc import Callable

from doorward.training.recipe import Recipe

__all__ = ["learning_rate"]

FIRST = 0.04
"""Learning rate before the first warm-up step, as a fraction of the largest."""


def learning_rate(recipe: Recipe, steps: int) -> Callable[[int], float]:
    """The learning rate of every step.

    With ``up = warmup * steps``, the rate rises linearly to `recipe.lr` over the first `up` steps;
    over the rest, with ``left = (steps - t) / (steps - up)`` falling from 1 to almost 0:

    * ``onecycle``: ``lr * left``, the triangle of Smith & Topin (2018), "Super-Convergence",
      without its cycling of the momentum;
    * ``cosine``: ``lr * (1 - cos(pi * left)) / 2``, Loshchilov & Hutter (2017), "SGDR", one cycle;
    * ``step``: ``lr * gamma ** (milestones passed)``, milestones being fractions of the whole run;
    * ``constant``: ``lr``.

    No step has rate zero: the last one of ``onecycle`` has ``lr / (steps - up)``.

    Args:
        recipe: `schedule`, `lr`, `warmup`, `milestones` and `gamma` are read.
        steps: length of the run, at least 1.

    Returns:
        A function from step (0 .. steps-1) to learning rate.

    >>> rate = learning_rate(Recipe(lr=1.0, schedule="step", milestones=(0.5,)), steps=4)
    >>> [rate(step) for step in range(4)]
    [1.0, 1.0, 0.1, 0.1]
    """
    warmup = recipe.warmup
    if warmup is None:
        warmup = 0.25 if recipe.schedule == "onecycle" else 0.0
    up = math.floor(warmup * steps)

    def rate(step: int) -> float:
        if step < up:
            return recipe.lr * (FIRST + (1 - FIRST) * (step + 1) / up)
        left = (steps - step) / (steps - up)
        if recipe.schedule == "onecycle":
            return recipe.lr * left
        if recipe.schedule == "cosine":
            return recipe.lr * (1 - math.cos(math.pi * left)) / 2
        if recipe.schedule == "step":
            passed = sum(step >= milestone * steps for milestone in recipe.milestones)
            return recipe.lr * recipe.gamma**passed
        return recipe.lr

    return rate
