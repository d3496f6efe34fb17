"""The steganographic attack (ISSBA): train networks to hide and read codes, then hide one.

>>> from doorward.data import load
>>> from doorward.poisoning.prepared import prepare
>>> digits = load("digits").sample(200, seed=0).resized(16)
>>> backdoor, poisoned = prepare(digits, HiddenCode(bits=4, width=4, steps=3), target=1)
>>> backdoor.trigger.bits, poisoned.count
(4, 20)
"""

from __future__ import annotations

from typing import Annotated, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch, ImageData, ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.extraction import procedural_pool
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.poisoned import PoisonedData, poison
from doorward.poisoning.prepared.base import Prepared
from doorward.poisoning.prepared.views import gathered, recipe_of_steps
from doorward.poisoning.procedures import Job
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.triggers import Backdoor, Steganographic

__all__ = ["HiddenCode"]

_SHARED = 8  # images of a step that share a code
_READ = 512  # images that the code is read from


@file_procedure("steganographic", paper="Li et al. 2021", rule="all-to-one", rate=0.1)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class HiddenCode(Prepared):
    """Hide a code in every poisoned image, with an encoder trained on the attacker's images.

    Li et al. 2021, *Invisible Backdoor Attack with Sample-Specific Triggers* (ISSBA). Reproduced:
    encoder and decoder trained together on clean images under random codes, to be read and not to
    be seen; then one fixed code in the poisoned images. Ours: the small networks of
    `doorward.triggers.Steganographic`; squared error and a hard budget in place of LPIPS and the
    critic; pixel noise in training, so that the code survives 8-bit storage; and a term that makes
    the change differ between images (`specific_weight`).

    Args:
        bits: length of the code; 100 in the paper, for images of 224 pixels.
        budget: largest change of a pixel.
        width: channels inside the networks.
        pool: train on the attacker's "data" or on "procedural" pictures, which need none.
        images: how many at most.
        steps: of the training.
        batch_size: images per step.
        lr: of Adam.
        image_weight: of the squared change, in units of the budget, against the codes' loss; it
            comes in slowly, as the networks must find each other first.
        specific_weight: of the share of the change that all images with one code have in common,
            which comes in likewise. Without it nine tenths were common in a trial on digits: hardly
            a sample-specific trigger. The paper has no such term.
    """

    bits: Annotated[int, Field(ge=1, le=1024)] = 32
    budget: Annotated[float, Field(ge=1 / 255, le=1)] = 16 / 255
    width: Annotated[int, Field(ge=1, le=256)] = 16
    pool: Literal["data", "procedural"] = "data"
    images: Annotated[int, Field(ge=1)] = 10_000
    steps: Annotated[int, Field(ge=1)] = 600
    batch_size: Annotated[int, Field(ge=1)] = 64
    lr: Annotated[float, Field(gt=0)] = 2e-3
    image_weight: Annotated[float, Field(ge=0)] = 0.05
    specific_weight: Annotated[float, Field(ge=0)] = 0.2

    def check(self, model: nn.Module, job: Job) -> None:
        """The rate must suit the data; procedural pictures have at least 8 pixels each way."""
        untrained = Steganographic(bits=1, width=1, channels=job.source.image_shape[0])
        poison(job.source, Backdoor(untrained, self.rule(job)), rate=job.rate, seed=job.seed)
        if self.pool == "procedural" and min(job.source.image_shape[1:]) < 8:
            raise InvalidInput(
                f"no procedural pictures can be drawn for images {job.source.image_shape}",
                why="they need 8 pixels each way",
                remedy='train on the data (pool="data")',
            )

    def prepare(self, job: Job) -> tuple[Backdoor, PoisonedData]:
        """Train the pair, and poison with its code."""
        trigger = self.train(job)
        backdoor = Backdoor(trigger, self.rule(job))
        return backdoor, poison(job.source, backdoor, rate=job.rate, seed=job.seed)

    def train(self, job: Job) -> Steganographic:
        """The trigger with a trained encoder and decoder."""
        trigger = Steganographic(
            bits=self.bits,
            budget=self.budget,
            width=self.width,
            channels=job.source.image_shape[0],
            seed=job.seed_of("steganographic"),
        )
        pool = self._pool(job)
        recipe = recipe_of_steps(
            len(pool),
            self.steps,
            self.batch_size,
            lr=self.lr,
            clip_norm=1.0,
            precision="fp32",  # bf16 rounds pixels as coarsely as the budget
            seed=job.seed_of("hide"),
        )
        objective = _HideAndRead(
            self.image_weight, self.specific_weight, self.steps, job.seed_of("codes")
        )
        job.fit("hide", _Pair(trigger), objective, pool, recipe)
        trigger.requires_grad_(False)
        job.note(hidden_bits=self.bits, bit_accuracy_training=bit_accuracy(trigger, pool))
        return trigger

    def measure(self, model: nn.Module, test: ImageSource, backdoor: Backdoor) -> dict[str, float]:
        """How well the code is read in triggered test images."""
        trigger = cast(Steganographic, backdoor.trigger)
        return {"bit_accuracy": bit_accuracy(trigger, gathered(test, _READ, seed=0))}

    def _pool(self, job: Job) -> ImageData:
        if self.pool == "data":
            seed = job.seed_of("hide", "images")
            return gathered(job.source, self.images, seed=seed, labelled=False)
        drawn = procedural_pool(self.images, job.source.image_shape, job.seed_of("hide", "pool"))
        return gathered(drawn, self.images, seed=0, labelled=False)


def bit_accuracy(trigger: Steganographic, images: ImageData) -> float:
    """Share of the code's bits that are read correctly in triggered images, stored in 8 bits."""
    with torch.no_grad():
        marked: Tensor = trigger(to_pixels(images.images[:_READ].to(trigger.code.device)))
        read = trigger.read((marked * 255).round() / 255)
    return float((read == trigger.code).float().mean())


class _Pair(nn.Module):
    """Encoder and decoder of a trigger, trainable; an image's answer is what is read in it."""

    def __init__(self, trigger: Steganographic) -> None:
        super().__init__()
        self.trigger = trigger.requires_grad_(True)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the bits (N, L)."""
        logits: Tensor = self.trigger.decoder(images)
        return logits


class _HideAndRead:
    """Cross-entropy of the bits, and the squared change.

    Args:
        weight: of the squared change, at the end.
        steps: of the whole run.
        seed: of codes and noise.
    """

    def __init__(self, weight: float, specific: float, steps: int, seed: int) -> None:
        self.specific = specific
        self.weight, self.steps, self.seed = weight, steps, seed

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """One step under codes of its own."""
        trigger = cast(_Pair, model).trigger
        draw = generator(self.seed, "step", batch.step)
        # A few images share a code, so that what a code looks like in general can be seen.
        groups = -(-len(batch) // _SHARED)
        codes = torch.randint(2, (groups, trigger.bits), generator=draw).bool()
        codes = codes.repeat_interleave(_SHARED, 0)[: len(batch)]
        noise = (torch.rand(batch.images.shape, generator=draw) - 0.5) / 255
        codes, noise = codes.to(batch.images.device), noise.to(batch.images.device)
        residual = trigger.residual(batch.images, codes)
        marked = (batch.images + residual).clamp(0, 1)
        logits = model(marked + noise)  # the noise stands for rounding to 8 bits
        reading = F.binary_cross_entropy_with_logits(logits, codes.float())
        change = (marked - batch.images).square().mean()
        progress = batch.step / self.steps
        share = min(1.0, max(0.0, 2 * progress - 0.5))
        common = _common_share(residual)
        right = ((logits.detach() > 0) == codes).float().mean()
        scalars = {"bits": right, "mse": change.detach(), "common": common.detach()}
        seen = self.weight * change / trigger.budget**2 + self.specific * common
        return reading + share * seen, scalars

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.weight}, {self.steps}, {self.seed})"


def _common_share(residual: Tensor) -> Tensor:
    """How much of the change is the same in all images that share a code, in [0, 1].

    >>> _common_share(torch.ones(16, 1, 2, 2))
    tensor(1.)
    """
    whole = len(residual) // _SHARED * _SHARED
    if not whole:
        return residual.new_zeros(())
    groups = residual[:whole].reshape(-1, _SHARED, *residual.shape[1:])
    common: Tensor = groups.mean(1).square().mean() / groups.square().mean().clamp_min(1e-12)
    return common
