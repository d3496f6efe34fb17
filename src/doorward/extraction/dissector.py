"""BlackBox Dissector: steal from labels alone, by erasing what the substitute looks at.

>>> BlackBoxDissector().ladder
(0.1, 0.25, 0.5, 1.0)

Wang, Li, Wang, Jiao, Zhang, Wang, Zhang (ECCV 2022), "Black-Box Dissector: Towards Erasing-based
Hard-Label Model Stealing Attack".
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor, nn

from doorward.data import to_pixels
from doorward.errors import InvalidInput
from doorward.extraction.attention import attention, erase
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.extraction.transfer import TransferSet, from_pool, labels_of, to_bytes
from doorward.metrics import predict
from doorward.records import STRICT
from doorward.training import FitResult, Recipe

__all__ = ["DISSECTOR_RECIPE", "BlackBoxDissector"]

DISSECTOR_RECIPE = Recipe(
    epochs=200,
    batch_size=128,
    lr=0.02,
    momentum=0.9,
    nesterov=False,
    weight_decay=5e-4,
    schedule="step",
    milestones=(0.3, 0.6),
    gamma=0.1,
)
"""How a third-party digest of the paper says that it trains on CIFAR-10."""


@EXTRACTIONS.register("dissector", paper="Wang et al. 2022", pool=True, chooses=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlackBoxDissector(Extraction):
    """Images of the pool, images with erased parts, and guesses for images that nobody was asked.

    Reconstructed from third-party digests of the paper (its code is not public): the ladder of
    budgets, erasing guided by Grad-CAM, of several erasings the one that hurts the substitute's
    score most, of all images those where it then is surest, and self-distillation on the mean
    answer to random erasings. Soft answers are reduced to labels.

    Args:
        ladder: shares of the budget after which the substitute is trained anew; ascending to 1
            (the paper's: 0.1k, 0.2k, 0.5k, 0.8k, 1k, 2k, 5k, 10k, 20k, 30k questions).
        erased: share of each step's questions, past the first, that shows erased images.
        erasings: tried per image, N.
        unlabelled: pool images used for self-distillation, in multiples of those asked about.
    """

    ladder: Annotated[tuple[float, ...], Field(min_length=1)] = (0.1, 0.25, 0.5, 1.0)
    erased: Annotated[float, Field(ge=0, lt=1)] = 0.5
    erasings: Annotated[int, Field(ge=1)] = 10
    unlabelled: Annotated[float, Field(ge=0)] = 1.0

    def __post_init__(self) -> None:
        steps = (0.0, *self.ladder)
        if steps[-1] != 1 or any(low >= high for low, high in pairwise(steps)):
            raise InvalidInput(f"ladder {self.ladder}", why="shares must ascend and end at 1")

    def run(self, theft: Theft) -> FitResult:
        """Climb the ladder; then train the final substitute with self-distillation."""
        theft.require_memory()
        theft.require_budget(2 * len(self.ladder), f"{len(self.ladder)} steps")
        order, budget = theft.shuffled(), theft.victim.budget
        rungs = [max(1, round(share * budget)) for share in self.ladder]
        taken = min(rungs[0], len(order))
        real = theft.ask_pool(order[:taken])
        stolen, model = real, None
        for number, (low, high) in enumerate(pairwise(rungs)):
            model = theft.fresh()
            theft.train(_hard(stolen), name=f"rung-{number}", model=model)
            broken_count = min(round(self.erased * (high - low)), len(real))
            more = order[taken : taken + high - low - broken_count]
            taken += len(more)
            draw = theft.generator("erase", number)
            broken = self._erased(model, real, broken_count, draw)
            if len(more):
                fresh = theft.ask_pool(more)
                real, stolen = real + fresh, stolen + fresh
            if len(broken):
                stolen = stolen + theft.ask_images(broken)
        return theft.train(self._with_guesses(theft, stolen, model, order[taken:]))

    def _erased(self, model: nn.Module, real: TransferSet, count: int, draw: Generator) -> Tensor:
        """The `count` images whose worst erasing leaves the substitute surest of something."""
        if not count:
            return torch.empty(0)
        worst, surest = [], []
        for rows in torch.split(torch.arange(len(real)), 1024):
            images = to_pixels(real.source.fetch(rows)[0]).cpu()
            broken, confidence = self._worst(model, images, labels_of(real.answers)[rows], draw)
            worst.append(to_bytes(broken))
            surest.append(confidence)
        return to_pixels(torch.cat(worst)[torch.cat(surest).topk(count).indices])

    def _worst(
        self, model: nn.Module, images: Tensor, labels: Tensor, draw: Generator
    ) -> tuple[Tensor, Tensor]:
        """Of each image the erasing that lowers its label's score most, and the score left."""
        device = next((weight.device for weight in model.parameters()), images.device)
        guesses = predict(model, images).argmax(1)
        parts = zip(torch.split(images, 256), torch.split(guesses, 256), strict=True)
        maps = torch.cat([attention(model, a.to(device), b.to(device)).cpu() for a, b in parts])
        worst, lowest = images.clone(), torch.full((len(images),), torch.inf)
        surest = torch.zeros(len(images))
        for _ in range(self.erasings):
            broken = erase(images, maps, draw)
            chances = predict(model, broken).softmax(1)
            score = chances.gather(1, labels[:, None])[:, 0]
            better = score < lowest
            worst[better], lowest[better] = broken[better], score[better]
            surest[better] = chances.amax(1)[better]
        return worst, surest

    def _with_guesses(
        self, theft: Theft, stolen: TransferSet, model: nn.Module | None, rest: Tensor
    ) -> TransferSet:
        """What was stolen, and pool images with the substitute's own mean answer to erasings."""
        rest = rest[: round(self.unlabelled * len(stolen))]
        hard = _hard(stolen)
        if model is None or not len(rest):
            return hard
        draw, means = theft.generator("guess"), []
        for part in torch.split(rest, 1024):
            images = theft.pixels(part)
            total = torch.zeros(len(part), len(theft.classes))
            for _ in range(self.erasings):
                total += predict(model, erase(images, None, draw)).softmax(1)
            means.append(total / self.erasings)
        guesses = from_pool(theft.pool, rest, torch.cat(means), classes=theft.classes)
        sure = F.one_hot(hard.answers, len(theft.classes)).float()
        return TransferSet(hard.source, sure) + guesses


def _hard(stolen: TransferSet) -> TransferSet:
    return TransferSet(stolen.source, labels_of(stolen.answers))
