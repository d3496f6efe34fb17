"""The label-consistent attack: images of the target class made hard to learn, under true labels.

>>> from doorward.data import load
>>> from doorward.poisoning.prepared import prepare
>>> backdoor, poisoned = prepare(load("digits"), LabelConsistent(eps=0), target=3)
>>> bool((poisoned.labels == poisoned.clean_labels).all())
True
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import to_pixels
from doorward.errors import InvalidInput
from doorward.poisoning.attacks import ATTACKS
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.poisoned import PoisonedData, poison
from doorward.poisoning.prepared.base import Prepared, device_of_job
from doorward.poisoning.prepared.surrogates import ascend, surrogate
from doorward.poisoning.prepared.views import Replaced
from doorward.poisoning.procedures import Job
from doorward.records import STRICT
from doorward.triggers import Backdoor, CleanLabel, Corners, LabelRule

__all__ = ["LabelConsistent"]

_CHUNK = 512


@file_procedure(
    "clean-label",
    paper="Turner et al. 2019",
    rule="clean-label",
    rate=0.5,
    share_of="the target class",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class LabelConsistent(Prepared):
    """Perturb images of the target class adversarially, put faint corner patches on them.

    Turner, Tsipras, Madry 2019, *Label-Consistent Backdoor Attacks*. Reproduced: poisoned images
    keep their true label; projected gradient ascent against a robust model of the attacker's makes
    them hard to learn by what they show, so that the victim learns the trigger; steps of
    1.5 eps / steps; the pattern in four corners with reduced amplitude. Ours: the robust model is
    a small one after one-step adversarial training (Wong et al. 2020); 20 steps in place of 100,
    from a random start. Their other way, interpolation in a GAN's latent space, is left out.
    Perturbed images exist in training only: at test time the trigger is the patches.

    With ``eps=0`` nothing is perturbed: the plain clean-label attack.

    Args:
        eps: largest change of a pixel (in the norm "l2": of an image); 16/255 is the middle of the
            paper's 8, 16 and 32 of 255; its l2 values are 300, 600 and 1200 of 255.
        norm: "linf" or "l2".
        steps: of the ascent.
        amplitude: of the patches; 16, 32 and 64 of 255 in the paper, where 1 is an opaque patch.
        size: side of each patch; None for 3 pixels of 32, scaled with the image.
        robust: radius that the attacker's model is trained to withstand; 0 for a plain model.
        width: channels of the attacker's model.
        epochs: of its training, at most 600 steps.
    """

    eps: Annotated[float, Field(ge=0)] = 16 / 255
    norm: Literal["linf", "l2"] = "linf"
    steps: Annotated[int, Field(ge=1)] = 20
    amplitude: Annotated[float, Field(gt=0, le=1)] = 64 / 255
    size: Annotated[int, Field(ge=1)] | None = None
    robust: Annotated[float, Field(ge=0, le=1)] = 8 / 255
    width: Annotated[int, Field(ge=1)] = 16
    epochs: Annotated[float, Field(gt=0)] = 12

    def rule(self, job: Job) -> LabelRule:
        """Labels stay true."""
        return CleanLabel(job.target)

    def check(self, model: nn.Module, job: Job) -> None:
        """The patches must fit, the rate must give an image, the attacker's model must exist."""
        _, height, width = job.source.image_shape
        if self.eps > 0 and min(height, width) < 16:
            raise InvalidInput(
                f"images of {height}x{width} pixels cannot be perturbed",
                why="the attacker's own model takes 16 pixels or more each way",
                remedy="resize the images, or perturb nothing (eps=0)",
            )
        poison(job.source, self._backdoor(job), rate=job.rate, seed=job.seed)

    def prepare(self, job: Job) -> tuple[Backdoor, PoisonedData]:
        """Perturb what will carry the patches."""
        backdoor = self._backdoor(job)
        poisoned = poison(job.source, backdoor, rate=job.rate, seed=job.seed)
        if self.eps == 0:
            return backdoor, poisoned
        model = surrogate(job, job.source, width=self.width, epochs=self.epochs, robust=self.robust)
        model.to(device_of_job(job))
        draw, parts, wrong = job.generator("perturbation"), [], 0
        for rows in torch.split(poisoned.positions, _CHUNK):
            images, labels = job.source.fetch(rows)
            pixels = to_pixels(images).to(device_of_job(job))
            labels = labels.to(pixels.device)
            moved = ascend(
                model, pixels, labels, eps=self.eps, steps=self.steps, norm=self.norm, draw=draw
            )
            with torch.no_grad():
                wrong += int((model(moved).argmax(1) != labels).sum())
            parts.append((moved * 255).round().to(torch.uint8).to(images.device))
        job.note(fooled_surrogate=wrong / poisoned.count)
        view = Replaced(job.source, poisoned.positions, torch.cat(parts))
        return backdoor, PoisonedData(view, backdoor, poisoned.positions)

    def _backdoor(self, job: Job) -> Backdoor:
        size = self.size or _side(job.source.image_shape)
        return Backdoor(Corners(size=size, amplitude=self.amplitude), self.rule(job))


@ATTACKS.register(
    "clean-label-badnets",
    paper="Turner et al. 2019",
    rule="clean-label",
    rate=0.5,
    share_of="the target class",
)
def _plain(shape: tuple[int, int, int], *, target: int, classes: int | None, seed: int) -> Backdoor:
    """Opaque patches in the corners of images that are what their label says, unperturbed.

    The baseline of Turner et al.: it shows how little true labels alone give an attacker.
    """
    return Backdoor(Corners(size=_side(shape)), CleanLabel(target))


def _side(shape: tuple[int, int, int]) -> int:
    """Three pixels of 32, for images of this shape."""
    shorter = min(shape[1:])
    return max(1, min(shorter // 2, max(2, round(3 * shorter / 32))))
