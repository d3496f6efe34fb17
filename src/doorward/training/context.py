"""What a method that works on a model is given: seed, device, the training loop, a notebook.

Scanners and removal methods get one of these::

    def repair(self, model, clean, context):
        work, held_out = context.hold_out(clean, 0.2)
        context.fit("fine-tune", model, None, work, self.recipe(context.seed))
        context.note(accuracy=accuracy(model, held_out))
        return model
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import predict
from doorward.models import require_model
from doorward.models.classifier import class_names
from doorward.randomness import derive_seed, generator
from doorward.training.loop import fit
from doorward.training.objectives import Objective
from doorward.training.recipe import FitResult, Recipe

__all__ = ["Context", "Labels", "usable_images"]

Labels = Literal["given", "model"]


class Context:
    """One application of a method.

    Args:
        given: the caller's model, which is never changed.
        seed: of everything random.
        device: where the work is done.
        progress: whether training draws progress bars.
        room: takes part in all seeds, so that methods of two rooms draw independently.

    Attributes:
        history: entries of all training phases so far.
        details: what `note` was told.
    """

    def __init__(
        self,
        given: nn.Module,
        *,
        seed: int,
        device: torch.device,
        progress: bool = False,
        room: str = "removal",
    ) -> None:
        self._given, self._room = given, room
        self.seed, self.device, self.progress = seed, device, progress
        self.history: list[dict[str, Any]] = []
        self.details: dict[str, Any] = {}

    def fit(
        self,
        phase: str,
        model: nn.Module,
        objective: Objective | None,
        data: ImageData,
        recipe: Recipe,
    ) -> FitResult:
        """Train `model` in place with the one loop, and file its history under `phase`.

        The phase's name goes into the recipe's seed, so that two phases differ in their order of
        images.
        """
        result = fit(model, objective, data, recipe, device=self.device, progress=self.progress)
        self.history += [{"phase": phase, **entry} for entry in result.history]
        return result

    def seed_of(self, *names: str | int) -> int:
        """A seed for one purpose."""
        return derive_seed(self.seed, self._room, *names)

    def generator(self, *names: str | int) -> torch.Generator:
        """A generator on the CPU for one purpose: the same draws on every device."""
        return generator(self.seed, self._room, *names)

    def note(self, **details: Any) -> None:
        """Put JSON-ready findings into the result."""
        self.details |= details

    def hold_out(self, clean: ImageData, share: float) -> tuple[ImageData, ImageData]:
        """Cut off a class-balanced part that only serves to choose the method's strength.

        Args:
            clean: all clean images.
            share: of them to hold out, in (0, 1).

        Returns:
            The images to work with, and those held out.

        Raises:
            InvalidInput: there are too few images for two parts.
        """
        held = round(share * len(clean))
        if not 1 <= held < len(clean):
            raise InvalidInput(
                f"{share:g} of {len(clean)} clean images cannot be held out",
                why="both parts need at least one image",
                remedy="give more images, or choose the strength yourself",
            )
        work, kept = clean.split(len(clean) - held, held, seed=self.seed_of("hold out"))
        return work, kept

    def copy_of_original(self) -> nn.Module:
        """A copy of the given model on the device, in evaluation mode, every weight trainable.

        Raises:
            ModelUnsuitable: the model holds something that cannot be copied.
        """
        try:
            model = copy.deepcopy(self._given)
        except Exception as error:  # foreign modules may hold anything
            raise ModelUnsuitable(
                f"this {type(self._given).__name__} cannot be copied",
                why=f"{type(error).__name__}: {error}".partition("\n")[0],
                remedy="keep locks, open files and tensors with a history out of its attributes",
            ) from error
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.is_floating_point())
            parameter.grad = None
        return model.to(self.device).eval()

    def frozen_original(self) -> nn.Module:
        """Such a copy with no weight trainable, for comparison."""
        return self.copy_of_original().requires_grad_(False)


def usable_images(model: nn.Module, clean: ImageData, labels: Labels) -> ImageData:
    """Clean images fit for a method that works on `model`, with the labels that it shall use.

    Args:
        model: that takes the images.
        clean: in memory.
        labels: ``"given"``, or ``"model"`` to take the model's own answers (and its classes).

    Raises:
        InvalidInput: the model is no module, or the images are not in memory.
        ModelUnsuitable: the model does not take the images, or has other classes.
    """
    if not isinstance(model, nn.Module):
        raise InvalidInput(
            f"the model is a {type(model).__name__}",
            why="this looks into the model and needs the nn.Module itself",
            remedy="for a model that only answers, see doorward.extraction",
        )
    if not isinstance(clean, ImageData):
        raise InvalidInput(
            f"the clean images are a {type(clean).__name__}",
            why="they are passed over many times and kept in memory",
            remedy="load them as ImageData (without stream=True)",
        )
    if labels not in ("given", "model"):
        raise InvalidInput(f"labels is {labels!r}", why="'given' and 'model' are known")
    classes = clean.num_classes if labels == "given" else None
    require_model(model, input_shape=clean.image_shape, classes=classes, head=False)
    return clean if labels == "given" else _answered(model, clean)


def _answered(model: nn.Module, clean: ImageData) -> ImageData:
    """The same images under the model's own answers, and its classes."""
    logits = predict(model, clean)
    names = getattr(model, "classes", None)
    classes = names if isinstance(names, tuple) else class_names(logits.shape[1])
    return replace(clean, labels=logits.argmax(1).to(clean.device), classes=classes)
