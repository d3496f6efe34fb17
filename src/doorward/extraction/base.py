"""What every extraction attack is: parameters with one hook, and what the hook is given.

A method is a frozen record whose `run` says which images to ask about and trains the substitute:

>>> from pydantic.dataclasses import dataclass
>>> from doorward.records import STRICT
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class FirstImages(Extraction):
...     "Ask about the pool's first images."
...     def run(self, theft):
...         return theft.train(theft.ask_pool(torch.arange(theft.victim.left)))

`doorward.extraction.steal` makes the `Theft`, checks what can be checked before, and measures.
"""

from __future__ import annotations

import copy
import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from doorward.data import Augment, ImageData, ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.extraction.distillation import Distillation
from doorward.extraction.transfer import TransferSet, from_images, from_pool, to_bytes
from doorward.extraction.victim import Victim
from doorward.randomness import derive_seed, generator
from doorward.records import Record
from doorward.registry import Registry
from doorward.training import FitResult, Objective, Recipe, fit, recipe_for
from doorward.training.distributed import resolve_device
from doorward.training.progress import progress_bar

__all__ = ["EXTRACTIONS", "Extraction", "Theft", "default_recipe", "pool_order"]


class Extraction(Record, ABC):
    """Base of all methods: a frozen record of parameters, and `run`.

    Attributes:
        needs: answers that the method needs: ``"any"``, or ``"soft"`` (probabilities).
    """

    needs: ClassVar[Literal["any", "soft"]] = "any"

    @abstractmethod
    def run(self, theft: Theft) -> FitResult:
        """Choose questions, ask them within the budget, train ``theft.model``.

        Returns:
            The last training of ``theft.model``.
        """


EXTRACTIONS: Registry[type[Extraction]] = Registry("extraction attack")
"""Methods by name; each entry is a record class, made with its defaults or your own values."""


def default_recipe(
    images: int, side: int, *, architecture: str = "resnet8", seed: int = 0
) -> Recipe:
    """The recipe of a thief who knows no better: ours, not a paper's.

    That of `training.recipe_for` unknown data, in smaller batches, for at least 30 epochs and 900
    steps; random crops, and no mirroring, because the thief cannot know whether the victim's
    classes survive it. (Public attack code trains with SGD at small rates from ImageNet weights,
    or with Adam; from scratch on procedural images, SGD at this rate did better than AdamW in
    first trials on digits.)

    Args:
        images: expected size of the transfer set.
        side: of the images, in pixels.
        architecture: of the substitute.
        seed: of the recipe.

    >>> default_recipe(500, 32).epochs, default_recipe(50_000, 32).epochs
    (112.5, 30.0)
    """
    known = recipe_for("pool", architecture)
    batch_size = 64 if images < 10_000 else 128
    scale = batch_size / known.batch_size if known.optimizer == "sgd" else 1.0
    recipe = dataclasses.replace(
        known,
        batch_size=batch_size,
        lr=known.lr * scale,
        augment=Augment(pad_crop=max(1, side // 8)),
        seed=seed,
    )
    epochs = max(30.0, round(900 / recipe.steps_per_epoch(images), 2))
    return dataclasses.replace(recipe, epochs=epochs)


def pool_order(pool: ImageSource, seed: int) -> Tensor:
    """All positions of a pool in the random order of a theft, int64 ``(N,)``."""
    return torch.randperm(len(pool), generator=generator(seed, "extraction", "pool order"))


class Theft:
    """What a method works with.

    Args:
        victim: to be asked.
        pool: unlabelled images of the size that the victim takes.
        model: the substitute that shall be trained.
        recipe: how to train it.
        seed: of everything that the method draws.
        classes: names of the victim's classes.
        folder: for checkpoints; None for none.
        fit_options: passed on to `training.fit`.

    Attributes:
        transfer_images: size of the set that the substitute was last trained on.
    """

    def __init__(
        self,
        *,
        victim: Victim,
        pool: ImageSource,
        model: nn.Module,
        recipe: Recipe,
        seed: int,
        classes: tuple[str, ...],
        folder: Path | None,
        fit_options: Mapping[str, Any],
    ) -> None:
        self.victim, self.pool, self.model, self.recipe = victim, pool, model, recipe
        self.seed, self.classes, self.folder = seed, classes, folder
        self.transfer_images = 0
        self._fit_options = dict(fit_options)
        self._untrained = copy.deepcopy(model.state_dict())

    def generator(self, *names: str | int) -> torch.Generator:
        """Random numbers for one purpose of this theft."""
        return generator(self.seed, "extraction", *names)

    def shuffled(self) -> Tensor:
        """All positions of the pool in a random order, int64 ``(N,)`` (see `pool_order`)."""
        return pool_order(self.pool, self.seed)

    def pixels(self, positions: Tensor) -> Tensor:
        """The pool's images at `positions`, float ``(N, C, H, W)`` in [0, 1], on the CPU."""
        return to_pixels(self.pool.fetch(positions)[0]).cpu()

    def ask_pool(self, positions: Tensor) -> TransferSet:
        """Ask the victim about the pool's images at `positions`."""
        answers, done = [], 0
        progress = bool(self._fit_options.get("progress", False))
        with progress_bar(enabled=progress, steps=len(positions), done=0) as show:
            for part in torch.split(positions, 256):
                answers.append(self.victim.ask(self.pixels(part)))
                done += len(part)
                show(done, "asking", {"spent": self.victim.spent})
        return from_pool(self.pool, positions, torch.cat(answers), classes=self.classes)

    def ask_images(self, images: Tensor) -> TransferSet:
        """Ask about images of the thief's own making, float ``(N, C, H, W)``; rounded to bytes."""
        sent = to_bytes(images)
        answers = [self.victim.ask(to_pixels(part)) for part in torch.split(sent, 1024)]
        return from_images(sent, torch.cat(answers), classes=self.classes)

    def fresh(self) -> nn.Module:
        """An untrained copy of the substitute, for a method's inner rounds, on their device."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self._untrained)
        return model.to(resolve_device(self._fit_options.get("device", "auto")))

    def train(
        self,
        stolen: TransferSet,
        *,
        name: str = "final",
        model: nn.Module | None = None,
        recipe: Recipe | None = None,
        brief: bool = False,
        objective: Callable[[Tensor], Objective] = Distillation,
    ) -> FitResult:
        """Train the substitute (or another model, such as `fresh` gives) on what was stolen.

        Args:
            stolen: images and answers.
            name: of this training: its checkpoint's folder; every training of a theft has its own.
            model: None for the substitute itself.
            recipe: None for the theft's. Its seed is derived for all trainings but the final one.
            brief: a few steps, not worth a checkpoint or a progress bar.
            objective: made from the answers.
        """
        recipe = recipe or self.recipe
        if name != "final":
            recipe = dataclasses.replace(recipe, seed=derive_seed(recipe.seed, name))
        options = dict(self._fit_options)
        if brief:
            options["progress"] = False
        elif self.folder is not None:
            options["checkpoint"] = self.folder / name
        target = self.model if model is None else model
        if target is self.model:
            self.transfer_images = len(stolen)
        return fit(target, objective(stolen.answers), stolen.source, recipe, **options)

    def require_memory(self) -> None:
        """Refuse a pool that is streamed, for methods that mix new images with it.

        Raises:
            InvalidInput: the pool is no `ImageData`.
        """
        if not isinstance(self.pool, ImageData):
            raise InvalidInput(
                f"the pool {self.pool.name} is not in memory",
                why="this method adds images of its own to the pool's",
                remedy="load it without stream=True, or take another method",
            )

    def require_budget(self, least: int, what: str) -> None:
        """Refuse a budget that does not suffice for the method's first step.

        Raises:
            InvalidInput: fewer than `least` questions may be asked in all.
        """
        if self.victim.budget < least:
            raise InvalidInput(
                f"a budget of {self.victim.budget} questions is too small",
                why=f"{what} need {least}",
                remedy="raise the budget",
            )
