"""How much is too much: the strongest change that clean accuracy allows.

Methods that prune have a strength. Choosing it by attack success is impossible (the attack is not
known), choosing it on test images is cheating; so part of the clean images is held out for it:

>>> from doorward.data import load
>>> data = load("digits").sample(50, seed=0).resized(8)
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
>>> def weaken(strength):
...     _ = model[1].weight.mul_(1 - strength), model[1].bias.mul_(1 - strength)
>>> strongest(model, data, [0.1, 0.5, 0.9], weaken, budget=0.0).strength
0.9
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from doorward.data import ImageData
from doorward.metrics import accuracy

__all__ = ["Choice", "strongest"]


class Choice(NamedTuple):
    """What `strongest` chose.

    Attributes:
        strength: None if even the weakest change broke the budget.
        accuracy_before: on the held-out images.
        accuracy: there, with the chosen change.
        curve: all measured pairs of strength and accuracy.
    """

    strength: float | None
    accuracy_before: float
    accuracy: float
    curve: list[tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """For `Context.note`."""
        return {
            "strength": self.strength,
            "held_out_accuracy_before": self.accuracy_before,
            "held_out_accuracy": self.accuracy,
            "curve": [list(point) for point in self.curve],
        }


@torch.no_grad()
def strongest(
    model: nn.Module,
    held_out: ImageData,
    strengths: Sequence[float],
    change: Callable[[float], object],
    *,
    budget: float,
) -> Choice:
    """Change the model as strongly as the budget allows.

    Strengths are tried in order, each on the unchanged model, until one costs more than `budget`;
    the one before is applied.

    Args:
        model: changed in place by `change`.
        held_out: images that nothing else is done with.
        strengths: from weak to strong.
        change: applies a strength to the model, in place and without gradient.
        budget: the largest drop of accuracy on `held_out`, in [0, 1].

    Returns:
        What was chosen, and the curve that led to it.
    """
    before = accuracy(model, held_out)
    intact = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen, reached = None, before
    curve: list[tuple[float, float]] = []
    for strength in strengths:
        model.load_state_dict(intact)
        change(strength)
        now = accuracy(model, held_out)
        curve.append((strength, now))
        if before - now > budget + 1e-12:
            break
        chosen, reached = strength, now
    model.load_state_dict(intact)
    if chosen is not None:
        change(chosen)
    return Choice(chosen, before, reached, curve)
