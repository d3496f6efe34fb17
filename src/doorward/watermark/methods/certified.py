"""Embedding under noise on the weights, so that the mark can be certified in a ball around them.

>>> from doorward.watermark.methods import make_embedding
>>> method = make_embedding("certified", {"sigma": 0.1, "levels": 4})
>>> [round(method.sigma_at(step), 3) for step in range(5)]
[0.025, 0.05, 0.075, 0.1, 0.025]

`doorward.watermark.certify` then says how far the weights may be moved, in L2 norm, before the
triggers' answers may change.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.records import STRICT
from doorward.watermark.methods.base import EMBEDDINGS, Embedding, Weight
from doorward.watermark.methods.step import MarkStep, Slope

__all__ = ["Certified", "noisy"]


@EMBEDDINGS.register(
    "certified", paper="Bansal et al. 2022 (ICML)", removal="bounded changes of the weights"
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Certified(Embedding):
    """Triggers are learnt at the weights, and at weights with Gaussian noise (Bansal et al. 2022).

    Args:
        sigma: standard deviation of the largest noise, the same for every trainable parameter.
        levels: the noise grows from ``sigma / levels`` to `sigma` in so many steps of the
            training, then begins again.
        samples: draws of the noise per step, whose gradients are averaged.
        alpha: what a trigger under noise counts in the loss, where a clean image counts 1.
        every: only every so manieth step has the second term, which then counts as many times.

    From the paper and its code: noise on all trainable parameters, growing in equal steps and
    starting over, averaged gradients, triggers in the ordinary loss as well, a warm-up (5 % of
    the training there). Its noise (up to 1.0, in networks trained for it over 100 epochs with 2,100
    passes through the triggers per epoch) is out of reach of short trainings, hence a smaller
    default and a longer warm-up. Ours: one
    level per step of the one training loop, where theirs is a training of its own between epochs;
    BatchNorm statistics under noise are those of clean images, where theirs are the triggers'.
    """

    exposures: ClassVar[int] = 80
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.3
    sigma: Annotated[float, Field(gt=0, le=100, allow_inf_nan=False)] = 0.05
    levels: Annotated[int, Field(ge=1, strict=True)] = 20
    samples: Annotated[int, Field(ge=1, strict=True)] = 1
    alpha: Weight = 1.0
    every: Annotated[int, Field(ge=1, strict=True)] = 1

    def sigma_at(self, step: int) -> float:
        """The noise of a step."""
        return self.sigma * (step // self.every % self.levels + 1) / self.levels

    def besides(self, step: MarkStep, images: Tensor, targets: Tensor) -> Slope | None:
        """The triggers' slope, averaged over draws of the noise."""
        if step.number % self.every:
            return None
        device = next(iter(step.parameters.values())).device
        draw, sigma = step.generator("weight noise", device), self.sigma_at(step.number)
        total = step.slope(images, targets, noisy(step.parameters, sigma, draw))
        for _ in range(self.samples - 1):
            total = total + step.slope(images, targets, noisy(step.parameters, sigma, draw))
        return total.scaled(self.alpha * self.every / self.samples)


@torch.no_grad()
def noisy(
    parameters: Mapping[str, Tensor], sigma: float, draw: torch.Generator
) -> dict[str, Tensor]:
    """Parameters with independent Gaussian noise of standard deviation `sigma`, as new tensors.

    Args:
        parameters: of any shapes, on the device of `draw`.
        sigma: above 0.
        draw: where the noise comes from.
    """
    noise = [
        torch.empty_like(tensor, memory_format=torch.contiguous_format).normal_(generator=draw)
        for tensor in parameters.values()
    ]
    total = torch._foreach_add(list(parameters.values()), noise, alpha=sigma)
    return dict(zip(parameters, total, strict=True))
