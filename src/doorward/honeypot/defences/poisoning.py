"""MAD: answers that point a thief's gradient the wrong way, within a bound.

>>> answers, images = torch.tensor([[0.7, 0.2, 0.1]]), torch.rand(1, 1, 16, 16)
>>> told = Mad(epsilon=0.5, surrogate="resnet8").answer(answers, images, Secret(bytes(32)))
>>> round(float((told - answers).abs().sum()), 3), int(told.argmax())
(0.5, 0)
"""

from __future__ import annotations

from functools import lru_cache
from itertools import combinations
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.honeypot.defences.base import DEFENCES, Defence
from doorward.metrics import predict
from doorward.models import create
from doorward.randomness import Secret
from doorward.records import STRICT

__all__ = ["Mad"]

_EXACT = 10  # classes up to which every set that holds the top class is tried
_ABOVE = 1e-5  # that the top class lies above its equals


@DEFENCES.register("mad", paper="Orekondy et al. 2020", gateway=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mad(Defence):
    """Maximise the angle between the gradient that an answer teaches and the true one.

    Orekondy, Schiele, Fritz (ICLR 2020), *Prediction Poisoning*. Reproduced: the objective with the
    gradient of a randomly initialised surrogate's last layer, the oracle over vertices that keep
    the first class (exact up to 10 classes; beyond, the sets that grow greedily), and the step in
    closed form to the bound. With the last layer alone the gradient for an answer y is
    ``(y - p) h^T``, of surrogate probabilities p and features h: h drops out of the direction, and
    all vertices of all images are tried at once.

    Args:
        epsilon: largest L1 distance from the true answer, 0 to 2.
        surrogate: architecture of the surrogate.
        seed: of its weights, which are never trained.
    """

    epsilon: Annotated[float, Field(ge=0, le=2)] = 0.5
    surrogate: str = "resnet8"
    seed: int = 0

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """The answers, moved by at most `epsilon` towards the worst vertex."""
        shape = (images.shape[1], images.shape[2], images.shape[3])
        net = _surrogate(self.surrogate, probabilities.shape[1], shape, self.seed)
        guess = predict(net, images.float()).softmax(1).double()
        truth = probabilities.double()
        worst = _vertices(truth, guess)
        distance = (worst - truth).abs().sum(1, keepdim=True)
        step = (self.epsilon / distance.clamp_min(1e-12)).clamp_max(1)
        return (truth + step * (worst - truth)).to(probabilities.dtype)


def _vertices(truth: Tensor, guess: Tensor) -> Tensor:
    """The vertex for each row, ``(N, K)``, that turns the gradient most."""
    count, classes = truth.shape
    ranks = truth.argsort(dim=1, descending=True, stable=True)  # column 0 is the top class
    right = nn.functional.normalize(truth - guess, dim=1)
    best, least = truth.clone(), torch.full((count,), 2.0, dtype=torch.float64)
    for members in _sets(classes):
        corner = torch.zeros(classes, dtype=torch.float64)
        corner[list(members)] = (1 - _ABOVE) / len(members)
        corner[0] += _ABOVE
        vertex = torch.zeros_like(truth).scatter(1, ranks, corner.expand(count, -1))
        cosine = (nn.functional.normalize(vertex - guess, dim=1) * right).sum(1)
        better = cosine < least
        best[better], least[better] = vertex[better], cosine[better]
    return best


def _sets(classes: int) -> list[tuple[int, ...]]:
    """Sets of ranks that hold the first: all, or those of neighbours from either end."""
    if classes <= _EXACT:
        others = range(1, classes)
        return [(0, *more) for size in range(classes) for more in combinations(others, size)]
    heads = [tuple(range(size)) for size in range(1, classes + 1)]
    tails = [(0, *range(classes - size, classes)) for size in range(1, classes - 1)]
    return heads + tails


@lru_cache(maxsize=4)
def _surrogate(
    architecture: str, classes: int, shape: tuple[int, int, int], seed: int
) -> nn.Module:
    return create(architecture, classes=classes, input_shape=shape, seed=seed).eval()
