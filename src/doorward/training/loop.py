"""The one training loop.

>>> from torch import nn
>>> from doorward.data import load
>>> from doorward.training import CrossEntropy, Recipe, fit
>>> model = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(64, 10))
>>> result = fit(model, CrossEntropy(), load("digits"), Recipe(epochs=2, lr=0.5, batch_size=128))
>>> result.steps, result.final["loss"] < 2.3
(24, True)

This file says what a call of `fit` consists of; what happens within the run is in
`doorward.training.run`.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from doorward.data import Batches, ImageSource
from doorward.errors import InvalidInput, StorageFailed
from doorward.records import environment, measure
from doorward.training.allocator import keep_memory
from doorward.training.batchnorm import batchnorm_policy
from doorward.training.checks import check_inputs
from doorward.training.distributed import make_fabric, resolve_precision
from doorward.training.objectives import CrossEntropy, Objective
from doorward.training.recipe import FitResult, Recipe
from doorward.training.run import Run, Storage

__all__ = ["fit"]


def fit(
    model: nn.Module,
    objective: Objective | None,
    source: ImageSource,
    recipe: Recipe,
    *,
    validation: ImageSource | None = None,
    validate: Literal["epoch", "end"] = "epoch",
    device: str | torch.device = "auto",
    devices: int = 1,
    nodes: int = 1,
    strategy: str = "auto",
    checkpoint: str | PathLike[str] | None = None,
    checkpoint_every: int | None = None,
    resume: bool = True,
    progress: bool = False,
    on_epoch: Callable[[dict[str, Any]], None] | None = None,
) -> FitResult:
    """Train a model in place.

    Everything random derives from ``recipe.seed``; the global generators are left as they were.
    The model comes back on the device it was on, in evaluation mode, with the averaged weights if
    the recipe asks for an average.

    A run that is killed at any moment and started again with the same arguments goes on from its
    last checkpoint, and on a CPU (with the same number of threads and processes) ends with bitwise
    the same weights as if it had never been interrupted. A finished run is not repeated: its
    weights and its result are read from the checkpoint.

    With several processes each step's batch is shared between them, gradients and BatchNorm
    statistics are taken over all rows, and the result is that of one process up to rounding and
    dropout. Each process calls `fit` with an equal model; see `doorward.training.distributed`.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K). Parameters that do not
            require gradients stay as they are.
        objective: what is minimised; None for cross-entropy with the recipe's label smoothing.
        source: training images; their labels must be classes of the model.
        recipe: how to train.
        validation: images to measure accuracy on, after each epoch or only at the end.
        validate: ``"epoch"`` or ``"end"``.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
        devices: data-parallel processes on each machine.
        nodes: machines.
        strategy: ``"auto"`` or a data-parallel strategy of Lightning Fabric.
        checkpoint: folder for the run's checkpoint; None for none. With several machines it must
            be on a file system that all of them see.
        checkpoint_every: steps between checkpoints; None for one per epoch.
        resume: go on from a checkpoint in the folder; False overwrites it.
        progress: draw a progress bar with live numbers and the time left, on stderr.
        on_epoch: called with each new entry of the history, in the main process.

    Returns:
        What was done, how long it took and where the time went.

    Raises:
        InvalidInput: images, labels, options or an existing checkpoint do not fit; said before
            the first step.
        ModelUnsuitable: the model does not take the images, or has non-finite weights.
        TrainingDiverged: the loss became NaN or infinite, or exploded; no such state is saved.
        TrainingInterrupted: SIGINT or SIGTERM came; the state was saved if there is a folder.
        StorageFailed: a checkpoint could not be written; the one before is intact.
        BadFile: the checkpoint to resume from is damaged.
    """
    if validate not in ("epoch", "end"):
        raise InvalidInput(f"validate is {validate!r}", why="'epoch' and 'end' are known")
    objective = _objective(objective, recipe)
    folder = _folder(checkpoint, checkpoint_every)
    recipe.steps(len(source))
    check_inputs(model, source, validation)
    fabric = make_fabric(
        device=device,
        devices=devices,
        nodes=nodes,
        strategy=strategy,
        precision=recipe.precision,
    )
    if fabric.device.type == "cpu":
        keep_memory()
    batches = Batches(
        source,
        recipe.batch_size,
        seed=recipe.seed,
        augment=recipe.augment,
        drop_last=recipe.drop_last,
        rank=fabric.global_rank,
        world_size=fabric.world_size,
        device=fabric.device,
    )
    storage = Storage(folder, checkpoint_every or len(batches), resume)
    cuda = [fabric.device.index] if fabric.device.type == "cuda" else []
    origin = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    try:
        with (
            measure() as meter,
            torch.random.fork_rng(cuda),
            batchnorm_policy(model, recipe.batchnorm, shared=fabric.world_size > 1),
        ):
            run = Run(fabric, model, objective, batches, recipe, storage)
            done = run.resume()
            if done is None:
                run.train(
                    validation,
                    every_epoch=validate == "epoch",
                    progress=progress,
                    on_epoch=on_epoch,
                )
        if done is not None:
            return FitResult.from_dict(done)
        result = FitResult(
            **run.figures(meter.seconds),
            seed=recipe.seed,
            recipe_digest=recipe.digest(),
            precision=resolve_precision(recipe.precision, fabric.device),
            processes=fabric.world_size,
            peak_memory_mib=meter.peak_memory_mib,
            environment=environment(),
        )
        run.finish(result)
        run.obey_late()
        return result
    finally:
        model.zero_grad(set_to_none=True)
        model.to(origin, memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        model.eval()


def _objective(objective: Objective | None, recipe: Recipe) -> Objective:
    if objective is None:
        return CrossEntropy(recipe.label_smoothing)
    if isinstance(objective, CrossEntropy) and recipe.label_smoothing not in (
        0.0,
        objective.label_smoothing,
    ):
        raise InvalidInput(
            f"the recipe smooths labels by {recipe.label_smoothing}, "
            f"the objective by {objective.label_smoothing}",
            remedy="pass objective=None to take the recipe's",
        )
    return objective


def _folder(checkpoint: str | PathLike[str] | None, every: int | None) -> Path | None:
    if every is not None and (checkpoint is None or every < 1):
        raise InvalidInput(
            f"checkpoint_every={every} with checkpoint={checkpoint!r}",
            why="a folder and at least 1 step are needed",
        )
    if checkpoint is None:
        return None
    folder = Path(checkpoint)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the checkpoint folder {folder} cannot be made",
            why=error.strerror or str(error),
            remedy="choose another folder",
        ) from error
    return folder
