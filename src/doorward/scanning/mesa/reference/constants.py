"""The constants and switches of MESA's reference code.

>>> paper = Constants()
>>> paper.alpha, paper.iterations, paper.hinge
(0.1, 620, 'sample')
>>> better = Constants(hinge="mean", location="image", last_offset=True)

Each oddity of the code is a switch whose default does as the code does.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.records import STRICT, Record
from doorward.scanning.mesa.generators import Prior
from doorward.scanning.mesa.stamping import random_places

__all__ = ["Constants", "offsets", "reachable"]

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Constants(Record):
    """How a sub-model is fitted; the defaults are those of the authors' code for CIFAR-10.

    Args:
        size: side of the patches in pixels; the method is told the attacker's.
        iterations: turns of the generator, and as many of the statistics network.
        batch_size: clean images per turn, each under a trigger of its own.
        alpha: weight of the mutual information between noise and trigger.
        lr: of Adam, for both networks.
        betas: of Adam.
        noise_size: dimension of the generator's noise, a multiple of 4.
        hidden: units of the hidden layers of both networks (2048 for CIFAR-100).
        prior: ``"uniform"`` noise as in the code, ``"normal"`` as on the authors' poster.
        hinge: ``"sample"`` caps the probability of every single image at the level, as the code
            does; ``"mean"`` the mean over the batch, which is what an attack success is.
        location: ``"batch"``, one place for all images of a batch, or ``"image"``.
        last_offset: whether the last row and column can be reached; the code rounds down a
            product that never reaches them.
        places: where the patch goes if that is known, as shares of the rows and columns at which
            it still fits, (0, 0) being the top left corner; None for anywhere. The code draws the
            place at random even under its rule "corner".
        trigger_noise: standard deviation of what is added to the patches that are stamped.
        clamp: keep these within [0, 1]; the code does not.
        include_target: keep images of the target class in the batch; they pass anyway, and only
            weaken the slope of the others.
        leaky_output: LeakyReLU on the statistics network's answer, which slows it down.
        noisy_statistics: show the statistics network the patches under noise, too. Without it the
            information between noise and patch has no bound but what that network can express.
    """

    size: Count = 3
    iterations: Count = 620
    batch_size: Annotated[int, Field(ge=2)] = 128
    alpha: NonNegative = 0.1
    lr: Positive = 2e-4
    betas: tuple[Decay, Decay] = (0.5, 0.999)
    noise_size: Annotated[int, Field(ge=4, multiple_of=4)] = 64
    hidden: Count = 512
    prior: Prior = "uniform"
    hinge: Literal["sample", "mean"] = "sample"
    location: Literal["batch", "image"] = "batch"
    last_offset: bool = False
    places: Annotated[tuple[tuple[Share, Share], ...], Field(min_length=1)] | None = None
    trigger_noise: NonNegative = 0.1
    clamp: bool = False
    include_target: bool = True
    leaky_output: bool = True
    noisy_statistics: bool = False


def reachable(height: int, width: int, size: int, *, last_offset: bool) -> tuple[int, int]:
    """Largest row and column that a patch's first pixel may have.

    >>> reachable(32, 32, 3, last_offset=False), reachable(32, 32, 3, last_offset=True)
    ((28, 28), (29, 29))
    """
    less = 0 if last_offset else 1
    return max(0, height - size - less), max(0, width - size - less)


def offsets(constants: Constants, images: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Where each image's patch goes.

    Args:
        constants: `size`, `location`, `last_offset` and `places` are read.
        images: (N, C, H, W).
        draw: on the CPU.

    Returns:
        First rows and columns, int64 (N,), on the CPU.
    """
    # Known places are meant literally, the far corner included.
    last = constants.last_offset or constants.places is not None
    free = reachable(images.shape[2], images.shape[3], constants.size, last_offset=last)
    count = len(images) if constants.location == "image" else 1
    rows, columns = random_places(count, free, draw, constants.places)
    return rows.expand(len(images)), columns.expand(len(images))
