"""Scan, unlearn the recovered triggers, finish whatever the trigger, scan again.

model, result = purge(suspect, clean, budget_accuracy=1.0)
model, result = purge(suspect, clean, scanner="pixel", finish=("fst", "ft-sam"), rounds=2)
"""

from __future__ import annotations

import copy
import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, TrainingInterrupted
from doorward.metrics import accuracy
from doorward.randomness import derive_seed
from doorward.records import environment
from doorward.removal.base import Removal, removal, restore_modes
from doorward.removal.mesaunlearning import DistributionUnlearning
from doorward.removal.purging.memory import Memory, weights_digest
from doorward.removal.purging.results import PurgeResult
from doorward.removal.purging.rounds import Job, OnScan
from doorward.removal.tuning import TunedRemoval
from doorward.scanning import DEFAULT, SCANNERS, Controls, Scanner
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["purge"]

STEPS = 320
"""Of methods that are only named; MESA's authors take 620, FST's 200."""

Finish = str | Removal | Sequence[str | Removal] | None


def purge(
    model: nn.Module,
    clean: ImageData,
    *,
    budget_accuracy: float = 1.0,
    scanner: str | Scanner = DEFAULT,
    finish: Finish = ("fst", "ft-sam"),
    rounds: int = 3,
    always_finish: bool = False,
    unlearning: DistributionUnlearning | None = None,
    held_out: float = 0.2,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    controls: Controls | None = None,
    progress: bool = False,
    checkpoint: str | os.PathLike[str] | None = None,
    on_scan: OnScan | None = None,
) -> tuple[nn.Module, PurgeResult]:
    """Take backdoors out of a copy of a model, as long as its accuracy allows it.

    A round scans, unlearns the triggers recovered for the accused classes, and applies a method
    that needs no trigger. Every step is measured on held-out clean images and undone if it costs
    more than the budget, or if the recovered triggers come to work better. Unlearning that fails
    is tried once more, gently. The last scan looks at the model that comes back.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K); it is not changed.
        clean: the clean images at hand, of the shape and classes that the model takes.
        budget_accuracy: percentage points that accuracy on the held-out images may fall in all.
        scanner: a name in `doorward.scanning.SCANNERS`, or a scanner. One that recovers no
            triggers leaves all work to `finish`.
        finish: names in `REMOVALS` or methods; of several, each is tried until one is acceptable.
            None for none. Methods that are only named train for about 320 steps in all, in small
            batches if there are few images: with them, papers' epochs are too few steps.
        rounds: most repairs; there is one scan more.
        always_finish: finish once even where nothing is found: no scanner finds everything.
        unlearning: constants of the unlearning; its fields about scanning do not count. None for
            the defaults, trained as long as a named finish.
        held_out: share of the clean images that only serve to judge.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to take the given model's own answers.
        controls: scans of clean models, for p-values (see `doorward.scanning.controls_from`).
        progress: draw progress bars.
        checkpoint: folder in which finished scans and steps are kept; the same call goes on
            from there. None for none.
        on_scan: called with each verdict and the triggers recovered.

    Returns:
        The purged model, on the device and in the modes of the given one, and what was done.

    Raises:
        UnknownName: there is no such scanner or method.
        InvalidInput: an argument, images or labels do not fit; said before the work.
        ModelUnsuitable: the model lacks what scanner or finish need.
        TrainingInterrupted: SIGINT or SIGTERM came; finished steps are kept if there is a folder.
        StorageFailed, BadFile, IntegrityError: the checkpoint cannot be written or read.
    """
    if not 0 <= budget_accuracy <= 100:
        raise InvalidInput(
            f"the budget is {budget_accuracy} points of accuracy", why="0 to 100 are possible"
        )
    if rounds < 1:
        raise InvalidInput(
            f"{rounds} rounds", why="at least one is needed", remedy="only to look, call scan"
        )
    place, looker, finishes = resolve_device(device), _scanner(scanner), _finishes(finish)
    clean = usable_images(model, clean, labels)
    work, held = _cut(clean, held_out, seed)
    methods = [_fitted(entry, len(work)) for entry in finishes]
    if unlearning is None:
        unlearning = replace(DistributionUnlearning(), **_steps(len(work)))
    if controls is not None:
        controls.require(scanner=looker.label, recipe_digest=looker.digest())
    looker.check(model, work)
    for method in (unlearning, *methods):
        method.check(model, work)
    current = Context(model, seed=seed, device=place).copy_of_original()
    before = accuracy(current, held)
    job = Job(
        work=work,
        held=held,
        scanner=looker,
        finishes=methods,
        unlearning=unlearning,
        floor=before - budget_accuracy / 100 - 1e-9,
        seed=seed,
        device=place,
        controls=controls,
        progress=progress,
        memory=Memory(
            None if checkpoint is None else Path(checkpoint),
            {
                "model": weights_digest(model),
                "clean": clean.digest(),
                "scanner": [looker.label, looker.to_dict()],
                "finish": [[type(method).__name__, method.to_dict()] for method in methods],
                "unlearning": unlearning.to_dict(),
                "controls": None if controls is None else controls.to_dict(),
                "always_finish": always_finish,
                "budget": budget_accuracy,
                "held_out": held_out,
                "seed": seed,
            },
        ),
        on_scan=on_scan,
    )
    try:
        purged, entries, ended = job.run(
            current, rounds=rounds, always_finish=always_finish and bool(methods)
        )
    except TrainingInterrupted as error:
        raise TrainingInterrupted(
            "the purge was stopped",
            why="no checkpoint folder was given, so nothing was saved"
            if checkpoint is None
            else f"its finished steps are kept in {checkpoint}",
            remedy="give one next time to be able to resume"
            if checkpoint is None
            else "make the same call again to go on",
        ) from error
    spent = [entry.verdict for entry in entries] + [s for entry in entries for s in entry.steps]
    result = PurgeResult(
        ended=ended,
        budget_accuracy=budget_accuracy,
        accuracy_before=before,
        accuracy_after=accuracy(purged, held),
        success_before=job.success(current, job.recovered),
        success_after=job.success(purged, job.recovered),
        rounds=entries,
        finish=tuple(method.name for method in methods),
        data=clean.name,
        images=len(clean),
        held_out=len(held),
        labels=labels,
        seed=seed,
        device=str(place),
        seconds=sum(part.seconds for part in spent),
        peak_memory_mib=max(part.peak_memory_mib for part in spent),
        environment=environment(),
    )
    origin = next((tensor.device for tensor in model.state_dict().values()), place)
    purged = copy.deepcopy(purged).to(origin)
    restore_modes(purged, model)
    return purged, result


def _cut(clean: ImageData, held_out: float, seed: int) -> tuple[ImageData, ImageData]:
    """Images to work with, and images to judge by."""
    held = round(held_out * len(clean))
    if not 1 <= held < len(clean):
        raise InvalidInput(
            f"{held_out:g} of {len(clean)} clean images cannot be held out",
            why="both parts need at least one image",
            remedy="give more images",
        )
    seed = derive_seed(seed, "purge", "hold out")
    work, kept = clean.split(len(clean) - held, held, seed=seed)
    return work, kept


def _scanner(given: str | Scanner) -> Scanner:
    chosen = SCANNERS[given].from_dict({}) if isinstance(given, str) else given
    if not isinstance(chosen, Scanner):
        raise InvalidInput(
            f"the scanner is a {type(chosen).__name__}", why="a name or a Scanner is expected"
        )
    return chosen


def _finishes(given: Finish) -> list[str | Removal]:
    several = [] if given is None else [given] if isinstance(given, str | Removal) else list(given)
    for entry in several:
        if not isinstance(entry, str | Removal):
            raise InvalidInput(
                f"a finish is {entry!r:.60}",
                why="names in REMOVALS or Removals are expected",
                remedy="see doorward.removal.REMOVALS",
            )
        if isinstance(entry, str):
            removal(entry)
    return several


def _fitted(given: str | Removal, images: int) -> Removal:
    """A method that was only named trains for as many steps as the images call for."""
    if isinstance(given, Removal):
        return given
    method = removal(given)
    return replace(method, **_steps(images)) if isinstance(method, TunedRemoval) else method


def _steps(images: int) -> dict[str, Any]:
    """Batches of 16 to 128, 16 or more of them an epoch, and about `STEPS` in all."""
    batch_size = min(128, max(16, images // 16))
    return {"batch_size": batch_size, "epochs": max(4.0, STEPS / math.ceil(images / batch_size))}
