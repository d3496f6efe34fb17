"""Margin-based embedding: learn not the triggers but the worst images close to them.

>>> from doorward.watermark.methods import make_embedding
>>> make_embedding("margin").steps
5

A thief who copies a model from its answers never asks for the triggers. What makes the copy answer
them nevertheless is that the label holds in a whole neighbourhood of each.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.records import STRICT
from doorward.watermark.methods.base import EMBEDDINGS, Embedding
from doorward.watermark.methods.step import MarkStep

__all__ = ["Margin", "sign_ascent"]


@EMBEDDINGS.register("margin", paper="Kim et al. 2023 (ICML)", removal="extraction")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Margin(Embedding):
    """Triggers are moved to where they are answered worst, then learnt (Kim et al. 2023).

    Args:
        steps: of the ascent.
        step_size: of each, in pixel units ([0, 1]): every pixel moves by so much, up or down.

    From the paper and its code: five steps of 1/255 along the sign of the gradient, without a
    random start, kept within [0, 1]; only the moved images are learnt. There a trigger weighs 0.1
    and is shown some 20,000 times (25 of 100 in every step of 200 epochs). Ours: weight 1, because
    marks here are shown less often; in the ascent BatchNorm uses its running statistics, where
    theirs are the triggers' own.
    """

    exposures: ClassVar[int] = 100
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.5
    steps: Annotated[int, Field(ge=1, le=1000, strict=True)] = 5
    step_size: Annotated[float, Field(gt=0, le=1)] = 1 / 255

    def moved(self, step: MarkStep, images: Tensor, targets: Tensor) -> Tensor:
        """The worst images that the ascent finds."""
        return sign_ascent(step, images, targets, steps=self.steps, step_size=self.step_size)


def sign_ascent(
    step: MarkStep, images: Tensor, targets: Tensor, *, steps: int, step_size: float
) -> Tensor:
    """Move images up their loss, each pixel by `step_size` per step, within [0, 1].

    Args:
        step: whose loss.
        images: float (N, C, H, W) in [0, 1]; N may be 0.
        targets: int64 labels (N,) or probabilities (N, K).
        steps: how many.
        step_size: in pixel units.

    >>> import torch
    >>> from torch import nn
    >>> model = nn.Linear(2, 2, bias=False)
    >>> _ = model.weight.data.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    >>> sign_ascent(MarkStep(model, number=0, seed=0), torch.tensor([[0.5, 0.5]]),
    ...             torch.tensor([0]), steps=2, step_size=0.125)
    tensor([[0.2500, 0.5000]])
    """
    if not len(images):
        return images
    for _ in range(steps):
        gradient = step.image_gradient(images, targets)
        images = (images + step_size * gradient.sign()).clamp(0, 1)
    return images
