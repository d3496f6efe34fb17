"""WaNet with its noise mode: the warp is learnt, and that other warps mean nothing.

>>> WarpNoise(s=1.0).to_dict()["k"], WarpNoise.name
(4, 'wanet-noise')
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch, ImageSource
from doorward.poisoning.joint.base import JointAttack, NonNegative, accuracy_under, rows_of
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.procedures import Job, Planted
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.training import clean_rows
from doorward.triggers import Backdoor, Warp

__all__ = ["WarpNoise"]


@file_procedure(
    "wanet-noise", paper="Nguyen and Tran 2021", rule="all-to-one", rate=0.1, share_of="every batch"
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class WarpNoise(JointAttack):
    """A fixed warp; images under the warp plus random noise keep their labels.

    Nguyen and Tran 2021, *WaNet: Imperceptible Warping-based Backdoor Attack*, with the noise mode
    that makes it an attack on the training: without it, the victim answers to any warp.
    Reproduced: the warp, and in every batch a share of `rate` warped images under the attacker's
    label and `cross_ratio` times as many under the warp plus noise, uniform in [-1, 1] / size per
    pixel, with true labels. Ours: images are warped after the augmentation, as at test time, where
    the authors' code augments warped images.

    Args:
        k: points of the warp's coarse field per axis.
        s: strength of the warp.
        cross_ratio: noisy images for every warped one.

    The result's ``cross_accuracy`` is the accuracy on test images under the warp plus noise.
    """

    k: Annotated[int, Field(ge=2, le=4096)] = 4
    s: NonNegative = 0.5
    cross_ratio: NonNegative = 2.0

    def crossed_share(self, job: Job) -> float:
        """`cross_ratio` images for every warped one."""
        return self.cross_ratio * job.rate

    def carry_out(self, model: nn.Module, job: Job) -> Planted:
        """Train on warped, noisy and clean images."""
        backdoor = Backdoor(Warp(k=self.k, s=self.s, seed=job.seed), self.rule(job))
        objective = _Warped(self, backdoor, job)
        fitted = job.fit_victim(model, objective, job.source)
        return Planted(backdoor, round(job.rate * len(job.source)), fitted)

    def measure(self, model: nn.Module, test: ImageSource, backdoor: Backdoor) -> dict[str, float]:
        """Accuracy under other warps."""
        trigger = cast(Warp, backdoor.trigger)

        def noisy(images: Tensor, rows: Tensor) -> Tensor:
            draw = generator(trigger.seed, "noise on the warp", int(rows[0]))
            return noisily_warped(trigger, images, draw)

        return {"cross_accuracy": accuracy_under(model, test, noisy)}


class _Warped:
    """Cross-entropy on batches of which some are warped and some noisily so."""

    def __init__(self, attack: WarpNoise, backdoor: Backdoor, job: Job) -> None:
        self.attack, self.rate, self.seed = attack, job.rate, job.seed_of("rows")
        self.smoothing = job.recipe.label_smoothing
        self.trigger, self.rule = cast(Warp, backdoor.trigger), backdoor.rule

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        attacked = round(self.rate * len(batch))
        crossed = round(self.attack.cross_ratio * self.rate * len(batch))
        draw = generator(self.seed, batch.step)
        rows, cross, _ = rows_of(len(batch), attacked=attacked, crossed=crossed, draw=draw)
        rows, cross = rows.to(batch.images.device), cross.to(batch.images.device)
        images, labels = batch.images.clone(), batch.labels.clone()
        images[rows] = self.trigger.apply(images[rows])
        images[cross] = noisily_warped(self.trigger, images[cross], draw)
        labels[rows] = self.rule.labels(labels[rows])
        clean = torch.ones_like(labels, dtype=torch.bool)
        clean[torch.cat([rows, cross])] = False
        with clean_rows(model, clean):
            logits = model(images).float()
        right = (logits.detach().argmax(1) == labels).float()
        scalars = {"accuracy": right[clean].mean(), "attack": right[rows].mean()}
        if len(cross):
            scalars["cross"] = right[cross].mean()
        return F.cross_entropy(logits, labels, label_smoothing=self.smoothing), scalars

    def __repr__(self) -> str:
        parts = (self.attack, self.trigger, self.rule, self.rate, self.seed)
        return f"{type(self).__name__}{parts!r}"


def noisily_warped(trigger: Warp, images: Tensor, draw: torch.Generator) -> Tensor:
    """Images under the trigger's warp plus uniform noise of up to half a pixel each way."""
    height, width = images.shape[2:]
    noise = torch.rand((len(images), height, width, 2), generator=draw).to(images) * 2 - 1
    grid = trigger.grid(images) + noise / noise.new_tensor([width, height])
    return F.grid_sample(images, grid.clamp(-1, 1), align_corners=True)
