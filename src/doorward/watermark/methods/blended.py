"""Blended marks: triggers are learnt shining through the task's own images.

>>> from doorward.watermark.methods import make_embedding
>>> make_embedding("blended").faintest
0.4

A trigger that is learnt alone is one point far from all others, and training on forgets it first.
Blended into clean images at changing opacity it is learnt like a feature of these images.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.data import Batch
from doorward.records import STRICT
from doorward.watermark.methods.base import EMBEDDINGS, Embedding
from doorward.watermark.methods.step import MarkStep

__all__ = ["Blended", "blend"]


@EMBEDDINGS.register("blended", paper="ours", removal="fine-tuning, pruning, filtering")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Blended(Embedding):
    """Triggers are learnt blended into clean images of the batch, at random opacity. Ours.

    Args:
        faintest: lowest opacity; each showing draws one between this and 1, where the trigger
            stands alone.

    What is learnt is harder than the triggers alone, so each is shown more often (`exposures`).
    """

    exposures: ClassVar[int] = 150
    batchnorm: Literal["mixed", "clean"] = "clean"
    faintest: Annotated[float, Field(gt=0, le=1)] = 0.4

    def examples(
        self, step: MarkStep, triggers: Tensor, labels: Tensor, batch: Batch
    ) -> tuple[Tensor, Tensor]:
        """Each trigger over some image of the batch."""
        triggers, labels = super().examples(step, triggers, labels, batch)
        draws = step.generator("blending")
        opacity = torch.rand(len(triggers), generator=draws) * (1 - self.faintest) + self.faintest
        carriers = torch.randint(len(batch), (len(triggers),), generator=draws)
        under = batch.images[carriers.to(batch.images.device)]
        return blend(under, triggers, opacity), labels


def blend(under: Tensor, over: Tensor, opacity: Tensor) -> Tensor:
    """Mix images: `opacity` (N,) in [0, 1] of `over`, the rest of `under`; both (N, C, H, W)."""
    share = opacity.view(-1, 1, 1, 1).to(under)
    return (1 - share) * under + share * over.to(under)
