"""Everything of a run that must survive a kill, and nothing else.

Random numbers, data order and learning rate are functions of the step, so they are not in here.

>>> from torch import nn
>>> from doorward.training.recipe import Recipe
>>> state = State(nn.Linear(2, 2), lambda model, batch: None, Recipe(ema=0.9))
>>> sorted(state.tensors()), state.step
(['ema', 'model', 'optimizer'], 0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from doorward.errors import BadFile, DoorwardError
from doorward.training.ema import Ema
from doorward.training.ledger import Ledger
from doorward.training.objectives import Objective
from doorward.training.optimizers import load_optimizer, make_optimizer, optimizer_state
from doorward.training.recipe import Recipe

__all__ = ["State"]


class State:
    """What a checkpoint holds.

    Args:
        model: on its device and in its memory format.
        objective: its state is kept if it offers ``state_dict()``.
        recipe: decides on optimiser and average.

    Attributes:
        step: steps done.
        history: entries of the epochs done.
        seconds: time spent by what: ``before`` (all earlier parts of the run), ``steps``,
            ``network``, ``data``, ``validation``, ``checkpoint``.
        ledger: losses of the epoch under way.
    """

    def __init__(self, model: nn.Module, objective: Objective, recipe: Recipe) -> None:
        self.model, self.objective = model, objective
        self.optimizer = make_optimizer(model, recipe)
        self.ema = Ema(model, recipe.ema) if recipe.ema is not None else None
        self.ledger = Ledger(recipe.divergence)
        self.step = 0
        self.history: list[dict[str, Any]] = []
        kinds = ("before", "steps", "network", "data", "validation", "checkpoint")
        self.seconds = dict.fromkeys(kinds, 0.0)

    def facts(self) -> dict[str, Any]:
        """The part that goes into JSON."""
        return {
            "step": self.step,
            "history": self.history,
            "seconds": self.seconds,
            "ledger": self.ledger.state_dict(),
            "sums": self.ledger.sums(),
        }

    def tensors(self, *, final: bool = False) -> dict[str, Any]:
        """The part that goes into safetensors; of a finished run, the result only."""
        content: dict[str, Any] = {"model": self.model.state_dict()}
        if hasattr(self.objective, "state_dict"):
            content["objective"] = self.objective.state_dict()
        if final:
            return content
        content["optimizer"] = optimizer_state(self.optimizer)
        if self.ema is not None:
            content["ema"] = self.ema.state_dict()
        return content

    def load(self, facts: Mapping[str, Any], tensors: Mapping[str, Any], *, final: bool) -> None:
        """Restore what `facts` and `tensors` gave.

        Raises:
            BadFile: something is missing or of another shape.
            DoorwardError: the objective refuses its state, in its own words.
        """
        try:
            _copy_into(self.model, tensors["model"])
            if hasattr(self.objective, "load_state_dict"):
                self.objective.load_state_dict(tensors["objective"])
            if not final:
                load_optimizer(self.optimizer, tensors["optimizer"])
                if self.ema is not None:
                    self.ema.load_state_dict(tensors["ema"])
            self.ledger.load_state_dict(facts["ledger"])
            self.ledger.reset(facts["sums"])
            self.step, self.history = facts["step"], facts["history"]
            self.seconds = facts["seconds"]
        except DoorwardError:
            raise
        except (KeyError, TypeError, IndexError, ValueError, AttributeError, RuntimeError) as error:
            raise BadFile(
                "the checkpoint does not hold a whole state",
                why=f"{type(error).__name__}: {error}",
                remedy="delete the folder, or pass resume=False, to begin again",
            ) from error


@torch.no_grad()
def _copy_into(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    # Into place, so that the memory format stays: kernels for another one may round differently.
    for name, tensor in model.state_dict().items():
        tensor.copy_(state[name])
