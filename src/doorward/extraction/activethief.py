"""ActiveThief: round by round, ask about the pool images from which the substitute learns most.

>>> import torch
>>> points = torch.tensor([[0.0], [1.0], [4.0], [6.0]])
>>> farthest_first(points, centres=points[:1], count=2)
tensor([3, 2])

Pal, Gupta, Shukla, Kanade, Shevade, Ganapathy (AAAI 2020), "ActiveThief: Model Extraction Using
Active Learning and Unannotated Public Data".
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.extraction import deepfool
from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.metrics.predictions import predict_batches
from doorward.records import STRICT
from doorward.training import FitResult

__all__ = [
    "ActiveThief",
    "ActiveThiefDeepFool",
    "ActiveThiefEntropy",
    "ActiveThiefKCenter",
    "farthest_first",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActiveThief(Extraction):
    """The rounds that all strategies share.

    Reproduced: a random start, ten rounds of equal size, and in each a substitute trained from
    scratch that says which images come next. Ours: no fifth of the budget is set apart to stop the
    trainings early; they run as long as the recipe says.

    Args:
        rounds: after the random start.
        start: share of the budget that is spent at random first.
    """

    rounds: Annotated[int, Field(ge=1)] = 10
    start: Annotated[float, Field(gt=0, lt=1)] = 0.1

    def run(self, theft: Theft) -> FitResult:
        """Ask, train, choose, ask; then train the final substitute on everything."""
        order = theft.shuffled()
        budget = min(theft.victim.budget, len(order))
        theft.require_budget(self.rounds + 1, f"a start and {self.rounds} rounds of one image")
        first = min(max(1, round(self.start * budget)), budget - self.rounds)
        sizes = [
            len(part) for part in torch.arange(max(budget - first, 0)).tensor_split(self.rounds)
        ]
        asked, rest = order[:first], order[first:]
        for number, size in enumerate(sizes):
            if not size:
                continue
            model = theft.fresh()
            theft.train(theft.ask_pool(asked), name=f"round-{number}", model=model)
            chosen = self.choose(theft, model, asked, rest, size)
            mask = torch.ones(len(rest), dtype=torch.bool)
            mask[chosen] = False
            asked, rest = torch.cat([asked, rest[chosen]]), rest[mask]
        return theft.train(theft.ask_pool(asked))

    @abstractmethod
    def choose(
        self, theft: Theft, model: nn.Module, asked: Tensor, rest: Tensor, count: int
    ) -> Tensor:
        """Which `count` of the pool's positions `rest` to ask about, as indices into `rest`.

        Args:
            theft: the theft.
            model: a substitute trained on what was asked so far.
            asked: positions that the victim answered.
            rest: positions that remain.
            count: how many, at most ``len(rest)``.
        """


@EXTRACTIONS.register("activethief-entropy", paper="Pal et al. 2020", pool=True, chooses=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActiveThiefEntropy(ActiveThief):
    """The images that the substitute is least sure of (largest entropy)."""

    def choose(
        self, theft: Theft, model: nn.Module, asked: Tensor, rest: Tensor, count: int
    ) -> Tensor:
        """The `count` largest entropies."""
        probabilities = _outputs(theft, model, rest)
        entropy = -(probabilities * probabilities.clamp_min(1e-12).log()).sum(1)
        return entropy.topk(count).indices


@EXTRACTIONS.register("activethief-k-center", paper="Pal et al. 2020", pool=True, chooses=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActiveThiefKCenter(ActiveThief):
    """The images whose answers lie farthest from all that were asked (greedy k-center).

    Distances are Euclidean between the substitute's probabilities, of candidates and of asked
    images alike (a public port takes the victim's for the latter, on another scale).
    """

    def choose(
        self, theft: Theft, model: nn.Module, asked: Tensor, rest: Tensor, count: int
    ) -> Tensor:
        """`count` images, each the farthest from all before."""
        return farthest_first(_outputs(theft, model, rest), _outputs(theft, model, asked), count)


@EXTRACTIONS.register("activethief-dfal-k-center", paper="Pal et al. 2020", pool=True, chooses=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ActiveThiefDeepFool(ActiveThief):
    """Images near the substitute's boundary (DFAL: DeepFool), and of these a varied choice.

    DFAL makes a shortlist of the images that DeepFool changes least, k-center picks from it. The
    perturbed images are never sent.

    Args:
        shortlist: length of the list, in multiples of the round's size.
        steps: of DeepFool.
    """

    shortlist: Annotated[float, Field(ge=1)] = 3.0
    steps: Annotated[int, Field(ge=1)] = 5

    def choose(
        self, theft: Theft, model: nn.Module, asked: Tensor, rest: Tensor, count: int
    ) -> Tensor:
        """A varied `count` of the images nearest to the boundary."""
        parts = torch.split(rest, 1024)
        near = torch.cat(
            [deepfool.distances(model, theft.pixels(part), steps=self.steps) for part in parts]
        )
        size = min(len(rest), max(count, round(self.shortlist * count)))
        listed = near.topk(size, largest=False).indices
        outputs = _outputs(theft, model, rest[listed])
        return listed[farthest_first(outputs, _outputs(theft, model, asked), count)]


def farthest_first(points: Tensor, centres: Tensor, count: int) -> Tensor:
    """Greedy k-center: again and again the point that is farthest from its nearest centre.

    Args:
        points: candidates, float ``(N, D)``.
        centres: points that are covered already, float ``(M, D)``, M >= 1.
        count: how many to choose, at most N.

    Returns:
        int64 ``(count,)``: places in `points`, in the order chosen.
    """
    nearest = torch.cat([torch.cdist(part, centres).amin(1) for part in torch.split(points, 4096)])
    chosen = torch.empty(count, dtype=torch.int64)
    for place in range(count):
        chosen[place] = farthest = nearest.argmax()
        nearest = torch.minimum(nearest, (points - points[farthest]).norm(dim=1))
        nearest[farthest] = -1  # never again, even among equals
    return chosen


def _outputs(theft: Theft, model: nn.Module, positions: Tensor) -> Tensor:
    """The substitute's probabilities for images of the pool, float ``(N, K)``."""
    logits = predict_batches(
        model, len(positions), lambda rows: theft.pool.fetch(positions[rows])[0], 512
    )
    return logits.softmax(1)
