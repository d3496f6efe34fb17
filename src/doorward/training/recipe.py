"""What is asked of a training run, and what came of it.

>>> recipe = Recipe(epochs=12, batch_size=256, lr=0.4, weight_decay=5e-4)
>>> recipe.steps(images=50_000), recipe.digest() == Recipe.from_dict(recipe.to_dict()).digest()
(2352, True)

A recipe's digest names it: it is written into results, model folders and checkpoints, and a run
resumes only under the recipe it was begun with.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.data import Augment
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record

__all__ = ["FitResult", "Recipe"]

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recipe(Record):
    """How to train: everything that decides the weights, besides model, data and objective.

    Args:
        epochs: passes over the data; a fraction ends within an epoch.
        max_steps: upper limit on optimiser steps, whatever `epochs` says.
        batch_size: images per step, over all processes together.
        drop_last: leave out the smaller last batch of an epoch.
        optimizer: ``"sgd"``, ``"adam"`` or ``"adamw"``.
        lr: the largest learning rate of the schedule.
        momentum: of SGD; Nesterov's form unless `nesterov` is off.
        betas: of Adam and AdamW.
        weight_decay: L2 coefficient (decoupled for AdamW).
        decay_bias_and_norm: apply weight decay to vectors (biases, normalisation scales) too.
        schedule: ``"onecycle"`` (linear up, linear down to almost zero), ``"cosine"``, ``"step"``
            or ``"constant"``; see `doorward.training.schedules`.
        warmup: fraction of the run with a linearly rising learning rate; `None` means 0.25 for
            ``"onecycle"`` and 0 for the others.
        milestones: fractions of the run at which ``"step"`` multiplies the rate by `gamma`.
        label_smoothing: of the default objective, cross-entropy.
        ema: decay of an exponential moving average of weights and BatchNorm statistics, which then
            becomes the result; `None` for none. Short runs are helped by an automatic ramp.
        clip_norm: largest L2 norm of the whole gradient; `None` for no clipping.
        batchnorm: ``"train"`` (batch statistics), ``"frozen"`` (stored statistics, left as they
            are; scales and biases still learn) or ``"clean-only"`` (statistics from the rows that
            the objective declares with `clean_rows`).
        precision: ``"fp32"``, ``"bf16"`` (autocast, weights stay fp32) or ``"auto"``: bf16 where
            the hardware multiplies it.
        channels_last: keep images and convolution weights in NHWC order while training.
        compile: run the network through `torch.compile`.
        divergence: stop when the smoothed loss exceeds this many times the larger of the first
            loss and 1; NaN and infinity always stop.
        augment: random changes of the images.
        seed: of the data order, the augmentation and dropout.
    """

    epochs: Positive = 10.0
    max_steps: Annotated[int, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(gt=0)] = 256
    drop_last: bool = False
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: Fraction = 0.9
    nesterov: bool = True
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    weight_decay: NonNegative = 0.0
    decay_bias_and_norm: bool = True
    schedule: Literal["onecycle", "cosine", "step", "constant"] = "onecycle"
    warmup: Fraction | None = None
    milestones: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = (0.5, 0.75)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1
    label_smoothing: Fraction = 0.0
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    clip_norm: Positive | None = None
    batchnorm: Literal["train", "frozen", "clean-only"] = "train"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    channels_last: bool = True
    compile: bool = False
    divergence: Annotated[float, Field(gt=1)] = 100.0
    augment: Augment = dataclasses.field(default_factory=Augment)
    seed: int = 0

    def steps_per_epoch(self, images: int) -> int:
        """Optimiser steps in one pass over `images` images."""
        rounded = math.floor if self.drop_last else math.ceil
        return rounded(images / self.batch_size)

    def steps(self, images: int) -> int:
        """Optimiser steps of the whole run over a set of `images` images.

        Raises:
            InvalidInput: there would be none.
        """
        steps = round(self.epochs * self.steps_per_epoch(images))
        if steps < 1:
            raise InvalidInput(
                f"{images} images in batches of {self.batch_size} for {self.epochs} epochs are "
                "no training step",
                why="the set is empty, or smaller than one batch with drop_last",
                remedy="take more images, more epochs or a smaller batch_size",
            )
        return steps if self.max_steps is None else min(steps, self.max_steps)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FitResult(Record):
    """What `fit` did.

    The times say where the run's seconds went. On a CPU they are exact; on a GPU, which works
    asynchronously, they are the times at which the host waited or launched work.

    Attributes:
        seconds: wall-clock time of the whole run, over all resumed parts.
        network_seconds: of these, forward, backward and optimiser.
        data_seconds: waiting for batches (loading and augmentation).
        validation_seconds: measuring accuracy.
        checkpoint_seconds: writing checkpoints.
        overhead: share of the training steps' time that is not the network: with validation and
            checkpoints left out, ``1 - network / (seconds of all steps)``.
        steps: optimiser steps done.
        epochs: passes over the data done.
        samples_per_second: images trained on per second of training steps.
        history: one entry per epoch: mean loss and scalars, learning rate, seconds, accuracy.
        final: the last entry of the history.
        seed: of the recipe.
        recipe_digest: of the recipe.
        precision: ``"fp32"`` or ``"bf16"``, as it was run.
        processes: data-parallel processes.
        resumed_from: step at which the last resumption picked up; 0 for an uninterrupted run.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) during the run.
        environment: versions and hardware.
    """

    seconds: float
    network_seconds: float
    data_seconds: float
    validation_seconds: float
    checkpoint_seconds: float
    overhead: float
    steps: int
    epochs: float
    samples_per_second: float
    history: list[dict[str, Any]]
    final: dict[str, Any]
    seed: int
    recipe_digest: str
    precision: str
    processes: int
    resumed_from: int
    peak_memory_mib: float
    environment: dict[str, Any]
