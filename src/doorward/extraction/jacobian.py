"""Jacobian-based augmentation: few real images, and many that are steps away from them.

>>> JacobianAugmentation().step
0.1

Papernot, McDaniel, Goodfellow, Jha, Celik, Swami (AsiaCCS 2017), "Practical Black-Box Attacks
against Machine Learning"; variants as in Juuti et al. (EuroS&P 2019), "PRADA".
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor, nn

from doorward.data import to_pixels
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.extraction.transfer import labels_of
from doorward.models import evaluating
from doorward.records import STRICT
from doorward.training import FitResult

__all__ = ["JacobianAugmentation", "steps_along"]

Direction = Literal["own", "away", "targeted"]


@EXTRACTIONS.register("jbda", paper="Papernot et al. 2017", pool=True, chooses=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class JacobianAugmentation(Extraction):
    """Ask about a few images of the pool, then about steps along the substitute's gradients.

    Reproduced: rounds of training from scratch, each followed by one new image per old one, a sign
    step of the given size. Ours: the start is a share of the budget; new images are clamped to
    [0, 1] and rounded to bytes before they are sent (public code clamps normalised pixels).

    Args:
        start: share of the budget that goes to images of the pool.
        rounds: of augmentation at most; each doubles the set while the budget lasts.
        step: size of the sign step, in pixel units.
        direction: ``"own"`` raises the score of the class that the victim gave (Papernot's),
            ``"away"`` lowers it (FGSM), ``"targeted"`` raises that of another class drawn at random
            (JB-TR).
        per_round: largest number of new images in a round; None for as many as there are old ones.
    """

    start: Annotated[float, Field(gt=0, le=1)] = 0.1
    rounds: Annotated[int, Field(ge=1)] = 6
    step: Annotated[float, Field(gt=0, le=1)] = 0.1
    direction: Direction = "away"
    per_round: Annotated[int, Field(ge=1)] | None = None

    def run(self, theft: Theft) -> FitResult:
        """Ask, train, step; then train the final substitute on everything."""
        theft.require_memory()
        order = theft.shuffled()
        first = min(max(1, round(self.start * theft.victim.budget)), len(order))
        stolen = theft.ask_pool(order[:first])
        for number in range(self.rounds):
            count = min(theft.victim.left, len(stolen), self.per_round or len(stolen))
            if not count:
                break
            model = theft.fresh()
            theft.train(stolen, name=f"round-{number}", model=model)
            draw = theft.generator("round", number)
            rows = torch.randperm(len(stolen), generator=draw)[:count]
            images = to_pixels(stolen.source.fetch(rows)[0]).cpu()
            labels = labels_of(stolen.answers)[rows]
            new = steps_along(model, images, labels, self.direction, self.step, draw)
            stolen = stolen + theft.ask_images(new)
        return theft.train(stolen)


def steps_along(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    direction: Direction,
    step: float,
    draw: Generator,
    *,
    batch_size: int = 256,
) -> Tensor:
    """One sign step per image along the gradient of a model's cross-entropy.

    Args:
        model: images to logits.
        images: float ``(N, C, H, W)`` in [0, 1], on the CPU.
        labels: int64 ``(N,)``.
        direction: as of `JacobianAugmentation`.
        step: in pixel units.
        draw: of the targets.
        batch_size: images worked on at a time.

    Returns:
        float ``(N, C, H, W)`` in [0, 1].
    """
    device = next((weight.device for weight in model.parameters()), images.device)
    parts = []
    with evaluating(model), torch.enable_grad():
        for start in range(0, len(images), batch_size):
            point = images[start : start + batch_size].to(device).requires_grad_(True)
            wanted = labels[start : start + batch_size].to(device)
            logits = model(point).float()
            if direction == "targeted":
                other = torch.randint(1, logits.shape[1], wanted.shape, generator=draw)
                wanted = (wanted + other.to(device)) % logits.shape[1]
            loss = F.cross_entropy(logits, wanted, reduction="sum")
            (slope,) = torch.autograd.grad(loss, point)
            sign = 1.0 if direction == "away" else -1.0
            parts.append((point.detach() + sign * step * slope.sign()).clamp(0, 1).cpu())
    return torch.cat(parts)
