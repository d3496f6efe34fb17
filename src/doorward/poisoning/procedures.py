"""Attacks that do more than poison data: one frozen record of constants with one hook.

Some attacks train their trigger together with the victim, or prepare it from the data first. Such
an attack is a `Procedure`: its numbers, and `carry_out`, which trains the victim in place:

>>> from pydantic.dataclasses import dataclass
>>> from doorward.triggers import Blend
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class Average(Procedure):
...     "Blend the mean training image in."
...     alpha: float = 0.5
...     def carry_out(self, model, job):
...         images, _ = job.source.fetch(torch.arange(100))
...         mean = images.float().mean(0) / 255
...         trigger = Blend(alpha=self.alpha, pattern="given", image=mean)
...         return job.fit_poisoned(model, Backdoor(trigger, self.rule(job)))

`doorward.poisoning.plant` checks what was asked, runs it, and measures what came of it:

>>> from doorward.data import load
>>> from doorward.poisoning import plant
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
>>> backdoor, result = plant(model, load("digits"), Average(), Recipe(max_steps=2), rate=0.1,
...                          target=3, test=load("digits", split="test"))
>>> result.poisoned, backdoor.rule
(144, AllToOne(target=3))

``file_procedure(name, paper=..., rule=..., rate=...)`` of `doorward.poisoning.planting` registers a
procedure among the named attacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.poisoning.poisoned import poison
from doorward.randomness import derive_seed, generator
from doorward.records import STRICT, Record
from doorward.training import FitResult, Objective, Recipe, fit
from doorward.triggers import AllToOne, Backdoor, LabelRule

__all__ = ["Job", "Planted", "Procedure"]

_VICTIM_ONLY = ("validation", "validate", "on_epoch")


class Planted(NamedTuple):
    """What a procedure hands back.

    Attributes:
        backdoor: trigger and label rule, as they are measured and saved.
        poisoned: training images that carried the trigger; where every batch draws its own, so
            many per epoch.
        fit: what the training of the victim did.
    """

    backdoor: Backdoor
    poisoned: int
    fit: FitResult


class Job:
    """One application of a procedure: what was asked, seeds, the training loop, a notebook.

    Args:
        source: clean training images.
        recipe: how the victim trains.
        target: the attacker's class.
        rate: poison rate in (0, 1].
        seed: of everything random, besides the order of images.
        options: arguments of `doorward.training.fit` that the caller gave.

    Attributes:
        details: what `note` was told.
        history: entries of all training phases so far; ``phase`` says which.
    """

    def __init__(
        self,
        source: ImageSource,
        recipe: Recipe,
        *,
        target: int,
        rate: float,
        seed: int,
        options: dict[str, Any],
    ) -> None:
        self.source, self.recipe, self.options = source, recipe, options
        self.target, self.rate, self.seed = target, rate, seed
        self.details: dict[str, Any] = {}
        self.history: list[dict[str, Any]] = []

    def seed_of(self, *names: str | int) -> int:
        """A seed for one purpose."""
        return derive_seed(self.seed, "poisoning", *names)

    def generator(self, *names: str | int) -> torch.Generator:
        """A generator on the CPU for one purpose: the same draws on every device."""
        return generator(self.seed, "poisoning", *names)

    def note(self, **details: Any) -> None:
        """Put JSON-ready findings into the result."""
        self.details |= details

    def fit(
        self,
        phase: str,
        model: nn.Module,
        objective: Objective | None,
        source: ImageSource,
        recipe: Recipe,
    ) -> FitResult:
        """Train something that is not the victim (a generator, a surrogate) with the one loop.

        Device, progress and checkpoint are the caller's; every phase has a folder of its own in
        the checkpoint, so that an interrupted procedure goes on where it was. What the phase's
        outcome depends on must be in `model`, `objective` and `recipe`.
        """
        kept = {name: value for name, value in self.options.items() if name not in _VICTIM_ONLY}
        return self._fit(phase, model, objective, source, recipe, kept)

    def fit_victim(
        self, model: nn.Module, objective: Objective | None, source: ImageSource
    ) -> FitResult:
        """Train the victim by the caller's recipe and with all options."""
        return self._fit("victim", model, objective, source, self.recipe, self.options)

    def fit_poisoned(
        self, model: nn.Module, backdoor: Backdoor, objective: Objective | None = None
    ) -> Planted:
        """Poison the training images with a finished trigger and train the victim on them."""
        poisoned = poison(self.source, backdoor, rate=self.rate, seed=self.seed)
        return Planted(backdoor, poisoned.count, self.fit_victim(model, objective, poisoned))

    def _fit(
        self,
        phase: str,
        model: nn.Module,
        objective: Objective | None,
        source: ImageSource,
        recipe: Recipe,
        options: dict[str, Any],
    ) -> FitResult:
        folder = options.get("checkpoint")
        if folder is not None:
            options = {**options, "checkpoint": Path(folder) / phase}
        result = fit(model, objective, source, recipe, **options)
        self.history += [{"phase": phase, **entry} for entry in result.history]
        return result


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Procedure(Record, ABC):
    """An attack with phases of its own. Subclasses are frozen records and write `carry_out`."""

    name: ClassVar[str] = ""

    def rule(self, job: Job) -> LabelRule:
        """The label rule; it is checked, with the test set, before anything is trained."""
        return AllToOne(job.target)

    def check(self, model: nn.Module, job: Job) -> None:
        """Raise if the attack cannot work on such a model, data, rate or device."""

    @abstractmethod
    def carry_out(self, model: nn.Module, job: Job) -> Planted:
        """The attack itself.

        Args:
            model: the victim, trained in place.
            job: what was asked for, seeds, and the training loop.

        Returns:
            The backdoor, how many images carried it, and the victim's training.
        """

    def measure(self, model: nn.Module, test: ImageSource, backdoor: Backdoor) -> dict[str, float]:
        """Figures of this attack's own, for the result's ``details``; none by default."""
        return {}
