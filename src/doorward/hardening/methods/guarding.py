"""Training in parts, with a look at accuracy after each, and a way back.

    outcome = guarded(method, model, work, held, context)      # the model is changed in place
    outcome.accuracy_before, outcome.accuracy_after, outcome.ended

With a memory, a killed training goes on after its last part and ends with the same weights.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import TYPE_CHECKING, Any, Literal

from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import TrainingDiverged
from doorward.hardening.methods.memory import Memory
from doorward.metrics import accuracy
from doorward.records import STRICT, Record
from doorward.training.context import Context

if TYPE_CHECKING:
    from doorward.hardening.methods.base import Hardening
    from doorward.hardening.methods.mixing import HardObjective

__all__ = ["Check", "Outcome", "guarded"]

_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Check(Record):
    """A look at accuracy.

    Attributes:
        steps: of the optimiser so far, those rolled back included.
        accuracy: on the held-out images; None if the training diverged.
        kept: whether the model was allowed to stay as it is.
        lr: learning rate of the part before.
        success: how often the changes of that part led astray; None where that is not known.
        seconds: that the part took.
    """

    steps: int
    accuracy: float | None
    kept: bool
    lr: float
    success: float | None
    seconds: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Outcome(Record):
    """What came of a training within a budget.

    Attributes:
        accuracy_before: on the held-out images.
        accuracy_after: on the same.
        held_out: how many they are.
        ended: ``"steps"`` (all were done) or ``"budget"`` (rolled back too often).
        kept_steps: steps whose effect is in the model.
        checks: every look.
    """

    accuracy_before: float
    accuracy_after: float
    held_out: int
    ended: Literal["steps", "budget"]
    kept_steps: int
    checks: list[Check]


def guarded(
    method: Hardening,
    model: nn.Module,
    work: ImageData,
    held: ImageData,
    context: Context,
    memory: Memory | None = None,
) -> Outcome:
    """Train in place, part by part; a part that costs too much accuracy is undone.

    Args:
        method: the numbers, and the objective.
        model: on the context's device; ends in its last state within the budget.
        work: to train on.
        held: to hold the budget by.
        context: seeds, device, the given model.
        memory: where finished parts are kept.
    """
    before = accuracy(model, held)
    floor = before - method.budget_accuracy / 100 - _ROUNDING
    objective = method.objective(model, work, context)
    count = min(method.checks, method.steps)
    parts = [(k + 1) * method.steps // count - k * method.steps // count for k in range(count)]
    state = _State(model, objective, before)
    if memory is not None:
        memory.resume(state, context)
    while state.done < count and state.setbacks <= method.patience:
        begun, number = time.perf_counter(), state.done
        falling = 1 - number / count if method.schedule == "linear" else 1.0
        rate = falling * 0.5**state.setbacks
        seed = context.seed_of("part", number)
        recipe = method.recipe(seed, parts[number], len(work), rate)
        objective.fresh()
        try:
            fitted = context.fit("harden", model, objective, work, recipe)
            now: float | None = accuracy(model, held)
            known = [entry["success"] for entry in fitted.history if "success" in entry]
            success = statistics.fmean(known) if known else None
        except TrainingDiverged:
            now, success = None, None
        objective.fresh()
        kept = now is not None and now >= floor
        state.done += 1
        check = Check(
            steps=sum(parts[: state.done]),
            accuracy=now,
            kept=kept,
            lr=recipe.lr,
            success=success,
            seconds=time.perf_counter() - begun,
        )
        state.take(check, parts[number])
        if memory is not None:
            memory.save(state, context)
    return Outcome(
        accuracy_before=before,
        accuracy_after=state.accuracy,
        held_out=len(held),
        ended="budget" if state.setbacks > method.patience else "steps",
        kept_steps=state.kept_steps,
        checks=state.checks,
    )


class _State:
    """Where a guarded training stands: what `Memory` keeps, and what a roll-back goes back to."""

    def __init__(self, model: nn.Module, objective: HardObjective, before: float) -> None:
        self.model, self.objective, self.accuracy = model, objective, before
        self.done, self.setbacks, self.kept_steps = 0, 0, 0
        self.checks: list[Check] = []
        self.keep()

    def take(self, check: Check, steps: int) -> None:
        """Accept a part, or undo it."""
        self.checks.append(check)
        if check.kept and check.accuracy is not None:
            self.accuracy = check.accuracy
            self.kept_steps += steps
            self.keep()
            return
        self.setbacks += 1
        steps_so_far = self.objective.steps
        self.model.load_state_dict(self.weights)
        self.objective.load_state_dict(copy.deepcopy(self.memory))
        self.objective.steps = steps_so_far  # or the same images would be drawn again

    def keep(self) -> None:
        """Remember this as the state to go back to."""
        self.weights = copy.deepcopy(self.model.state_dict())
        self.memory = copy.deepcopy(self.objective.state_dict())

    def facts(self) -> dict[str, Any]:
        """The part for JSON."""
        return {
            "done": self.done,
            "setbacks": self.setbacks,
            "kept_steps": self.kept_steps,
            "accuracy": self.accuracy,
            "checks": [check.to_dict() for check in self.checks],
        }

    def tensors(self) -> dict[str, Any]:
        """The part for safetensors: after each part the model is in the state to go back to."""
        return {"model": self.weights, "objective": self.objective.state_dict()}

    def load(self, facts: dict[str, Any], tensors: dict[str, Any]) -> None:
        """Restore what `facts` and `tensors` gave."""
        self.done, self.setbacks = int(facts["done"]), int(facts["setbacks"])
        self.kept_steps, self.accuracy = int(facts["kept_steps"]), float(facts["accuracy"])
        self.checks = [Check.from_dict(check) for check in facts["checks"]]
        self.model.load_state_dict(tensors["model"])
        self.objective.load_state_dict(tensors["objective"])
        self.keep()
