"""Superpixel sample gradients: steal the victim's gradients, a patch at a time, with its answers.

>>> attack = SuperpixelGradients(superpixels=16)
>>> attack.questions_per_image(channels=3)
49

Zhao et al. (CVPR 2024), "Fully Exploiting Every Real Sample: SuperPixel Sample Gradient Model
Stealing", arXiv:2406.18540.
"""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.extraction.distillation import Distillation
from doorward.extraction.superpixels import perturbed, purify, sum_over_superpixels, superpixels
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.training import FitResult

__all__ = ["GradientImitation", "SuperpixelGradients"]


@EXTRACTIONS.register("spsg", paper="Zhao et al. 2024", pool=True, chooses=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class SuperpixelGradients(Extraction):
    """Images of the pool, and for some of them the victim's gradient over superpixels.

    Reproduced: finite differences per superpixel and channel, of the loss of the predicted class;
    purification; a cosine term with the authors' weight. Ours: every question counts against the
    budget (the authors' code asks on, unbudgeted, while it trains); superpixels by k-means instead
    of quickshift; imitation of probabilities as the main term; images with known gradients are
    shown as they are, and a larger step, because services do not answer with seven digits.

    Args:
        superpixels: per image, S.
        share: of the budget that goes to gradients; one image costs S * channels + 1 questions.
        step: of the finite differences, in pixel units (the authors': 1e-4, on raw logits).
        per_batch: images with known gradients in each training step.
    """

    needs: ClassVar[Literal["any", "soft"]] = "soft"

    superpixels: Annotated[int, Field(ge=2)] = 16
    share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    step: Annotated[float, Field(gt=0, le=0.1)] = 0.01
    per_batch: Annotated[int, Field(ge=1)] = 16

    def questions_per_image(self, channels: int) -> int:
        """What one image's gradient costs."""
        return self.superpixels * channels + 1

    def run(self, theft: Theft) -> FitResult:
        """Ask about gradients, then about plain images with what is left; train once."""
        cost = self.questions_per_image(theft.pool.image_shape[0])
        theft.require_budget(cost + 2, "one image's gradient and two images")
        order = theft.shuffled()
        probed = order[: max(1, math.floor(self.share * theft.victim.budget / cost))]
        # Room for the step; the plain images are asked about as they are.
        images = theft.pixels(probed).clamp(max=1 - self.step)
        segments = superpixels(images, self.superpixels)
        labels, gradients = self._probe(theft, images, segments)
        plain = theft.victim.budget - cost * len(probed)
        stolen = theft.ask_pool(order[:plain])
        return theft.train(
            stolen,
            objective=lambda answers: GradientImitation(
                answers,
                images=images,
                segments=segments,
                labels=labels,
                gradients=purify(gradients),
                per_batch=self.per_batch,
                seed=theft.recipe.seed,
            ),
        )

    def _probe(self, theft: Theft, images: Tensor, segments: Tensor) -> tuple[Tensor, Tensor]:
        """The victim's classes ``(N,)`` and its gradients ``(N, C, S)``, by finite differences."""
        labels, gradients = [], []
        channels = images.shape[1]
        for image, patches in zip(images, segments, strict=True):
            moved = perturbed(image, patches, self.superpixels, self.step)
            answers = theft.victim.ask(torch.cat([image[None], moved])).double()
            label = answers[0].argmax()
            losses = -answers[:, label].clamp_min(1e-12).log()
            labels.append(label)
            slopes = (losses[1:] - losses[0]) / self.step
            gradients.append(slopes.float().view(channels, self.superpixels))
        return torch.stack(labels), torch.stack(gradients)


class GradientImitation(Distillation):
    """Imitate answers, and on some images the gradient over superpixels too.

    The second term is ``a * (1 - cos)`` between the student's gradient and the given one, where the
    given one is not 0; ``a = max(0.1, exp(imitation - (1 - cos) - 3))`` as in the authors' code.

    Args:
        answers: as of `Distillation`.
        images: float ``(M, C, H, W)``: those whose gradients are known.
        segments: int64 ``(M, H, W)``: their superpixels.
        labels: int64 ``(M,)``: the class whose loss was differentiated.
        gradients: float ``(M, C, S)``, purified.
        per_batch: how many of them are shown in each step.
        seed: of their choice.
    """

    def __init__(
        self,
        answers: Tensor,
        *,
        images: Tensor,
        segments: Tensor,
        labels: Tensor,
        gradients: Tensor,
        per_batch: int,
        seed: int,
    ) -> None:
        super().__init__(answers)
        self._tables = (images, segments, labels, gradients)
        self.per_batch, self.seed = min(per_batch, len(images)), seed

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The sum of both terms; scalars ``agreement`` and ``cosine``."""
        loss, scalars = super().__call__(model, batch)
        device = batch.images.device
        draw = generator(self.seed, "gradient images", batch.step)
        rows = torch.randperm(len(self._tables[0]), generator=draw)[: self.per_batch]
        images, segments, labels, wanted = (table[rows].to(device) for table in self._tables)
        with torch.autocast(device.type, enabled=False):  # gradients of gradients need the digits
            point = images.clone().requires_grad_(True)
            given_loss = F.cross_entropy(model(point).float(), labels, reduction="sum")
            (slopes,) = torch.autograd.grad(given_loss, point, create_graph=True)
        given = sum_over_superpixels(slopes, segments, wanted.shape[2]) * (wanted != 0)
        cosine = F.cosine_similarity(given.flatten(1), wanted.flatten(1), dim=1, eps=1e-12).mean()
        far = 1 - cosine
        weight = (loss.detach() - far.detach() - 3).exp().clamp(0.1, 10.0)
        return loss + weight * far, {**scalars, "cosine": cosine.detach()}

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self._answers)} answers, "
            f"{len(self._tables[0])} gradients, per_batch={self.per_batch}, seed={self.seed})"
        )
