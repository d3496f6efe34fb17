"""Harden a model within a budget of accuracy: one call for every method.

model, result = harden(original, clean, "deck", budget_accuracy=1.0)
result.accuracy_before, result.accuracy_after, result.ended
enlargement(class_distances(original, test), class_distances(model, test)).relative
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, TrainingInterrupted
from doorward.hardening.methods import HARDENINGS, Check, Hardening, guarded
from doorward.hardening.methods.guarding import Outcome
from doorward.hardening.methods.memory import Memory
from doorward.records import STRICT, Record
from doorward.removal.purging.memory import weights_digest
from doorward.training.context import Context, Labels, usable_images

__all__ = ["HardeningResult", "harden"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HardeningResult(Record):
    """What hardening did.

    Attributes:
        method: its name in `HARDENINGS`, or that of its class.
        parameters: all of its parameters.
        recipe_digest: names exactly these.
        data: name of the set of clean images.
        images: how many of them there were.
        labels: ``"given"``, or ``"model"`` if the model's own answers stood in for them.
        budget_accuracy: percentage points that could be spent.
        accuracy_before: on the held-out images.
        accuracy_after: on the same.
        held_out: how many they are.
        own_validation: whether the caller gave them, or they were cut off the clean images.
        ended: ``"steps"`` (all were done) or ``"budget"`` (rolled back too often).
        kept_steps: steps whose effect is in the model; 0 for one that came back as it was.
        checks: every look at accuracy.
        seed: of everything random.
        device: where it ran.
        seconds: wall-clock time of the training, over all resumed parts.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) meanwhile.
        history: one entry per part.
        environment: versions and hardware.
    """

    method: str
    parameters: dict[str, Any]
    recipe_digest: str
    data: str
    images: int
    labels: Labels
    budget_accuracy: float
    accuracy_before: float
    accuracy_after: float
    held_out: int
    own_validation: bool
    ended: Literal["steps", "budget"]
    kept_steps: int
    checks: list[Check]
    seed: int
    device: str
    seconds: float
    peak_memory_mib: float
    history: list[dict[str, Any]]
    environment: dict[str, Any]

    def told(self) -> str:
        """One sentence."""
        lost = 100 * (self.accuracy_before - self.accuracy_after)
        if not self.kept_steps:
            return "Nothing could be trained within the budget: the model is as it was."
        return (
            f"{self.kept_steps} of {self.checks[-1].steps} steps of {self.method} were kept, for "
            f"{lost:.2f} points of accuracy on {self.held_out} held-out images."
        )


def harden(
    model: nn.Module,
    data: ImageData,
    method: str | Hardening = "deck",
    *,
    budget_accuracy: float | None = None,
    validation: ImageData | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
) -> tuple[nn.Module, HardeningResult]:
    """Train a copy of a model so that its classes are harder to lead into each other.

    Accuracy on images that are not trained on is looked at after each tenth of the training (see
    `Hardening.checks`); a part after which it is below the budget is undone.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K); it is not changed.
        data: clean images, of the shape and classes that the model takes.
        method: a name in `HARDENINGS` for its defaults, or a `Hardening`.
        budget_accuracy: percentage points of accuracy that may be lost; None for the method's own,
            1 by default.
        validation: images to hold the budget by, better ones than a share of `data` if the model
            was trained on these: it is surer of them than of others, so that the budget is then
            kept too strictly.
        seed: of everything random; on a CPU the same seed gives the same weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...; where the work is done.
        labels: ``"given"``, or ``"model"`` to take the given model's own answers.
        progress: draw progress bars.
        checkpoint: folder in which finished parts are kept; the same call goes on from there.
            None for none.

    Returns:
        The hardened model, on the device and in the modes of the given one, and what was done.

    Raises:
        UnknownName: there is no such method.
        InvalidInput: an argument or the images do not fit; said before the work.
        ModelUnsuitable: the model does not take the images, or cannot be copied.
        TrainingInterrupted: SIGINT or SIGTERM came; finished parts are kept if there is a folder.
        StorageFailed, BadFile: the checkpoint cannot be written or read.
    """
    chosen = _chosen(method, budget_accuracy)
    held = None if validation is None else usable_images(model, validation, labels)
    if held is not None and held.classes != data.classes and labels == "given":
        raise InvalidInput("data and validation have different classes")
    outcomes: list[Outcome] = []

    def repair(working: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        parts = context.hold_out(clean, chosen.held_out) if held is None else (clean, held)
        memory = None if checkpoint is None else _memory(Path(checkpoint), working, parts, context)
        outcomes.append(guarded(chosen, working, *parts, context, memory))
        return working

    def _memory(
        folder: Path, working: nn.Module, parts: tuple[ImageData, ImageData], context: Context
    ) -> Memory:
        call = {
            "model": weights_digest(working),
            "images": [part.digest() for part in parts],
            "method": [type(chosen).__name__, chosen.to_dict()],
            "seed": context.seed,
        }
        return Memory(folder, call)

    try:
        hardened, done = chosen.framed(
            repair, model, data, seed=seed, device=device, labels=labels, progress=progress
        )
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            "hardening was stopped",
            why="no checkpoint folder was given, so nothing was saved"
            if checkpoint is None
            else f"its finished parts are kept in {checkpoint}",
            remedy="give one next time to be able to resume"
            if checkpoint is None
            else "make the same call again to go on",
        ) from error
    (outcome,) = outcomes
    known = chosen.name in HARDENINGS and HARDENINGS[chosen.name] is type(chosen)
    return hardened, HardeningResult(
        method=chosen.name if known else type(chosen).__name__,
        parameters=done.parameters,
        recipe_digest=done.recipe_digest,
        data=done.data,
        images=done.images,
        labels=labels,
        budget_accuracy=chosen.budget_accuracy,
        accuracy_before=outcome.accuracy_before,
        accuracy_after=outcome.accuracy_after,
        held_out=outcome.held_out,
        own_validation=held is not None,
        ended=outcome.ended,
        kept_steps=outcome.kept_steps,
        checks=outcome.checks,
        seed=seed,
        device=done.device,
        seconds=sum(check.seconds for check in outcome.checks),
        peak_memory_mib=done.peak_memory_mib,
        history=done.history,
        environment=done.environment,
    )


def _chosen(method: str | Hardening, budget: float | None) -> Hardening:
    chosen = HARDENINGS[method].from_dict({}) if isinstance(method, str) else method
    if not isinstance(chosen, Hardening):
        raise InvalidInput(
            f"the method is {method!r:.60}",
            why="a name in HARDENINGS or a Hardening is needed",
            remedy="make one first, e.g. hardening('deck', steps=200)",
        )
    if budget is None:
        return chosen
    if not 0 <= budget <= 100:
        raise InvalidInput(
            f"the budget is {budget} points of accuracy", why="0 to 100 are possible"
        )
    return dataclasses.replace(chosen, budget_accuracy=float(budget))
