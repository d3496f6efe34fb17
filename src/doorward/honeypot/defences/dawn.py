"""DAWN: a few answers in a thousand are wrong, which ones and how is a secret of the account.

>>> images, secret = torch.rand(400, 1, 16, 16), Secret(bytes(32))
>>> answers = torch.eye(10)[torch.zeros(400, dtype=torch.int64)]
>>> dawn = Dawn(share=0.05)
>>> wrong = dawn.answer(answers, images, secret).argmax(1) != 0
>>> wrong.equal(dawn.chosen(images, secret)), bool(5 < wrong.sum() < 40)
(True, True)

Nothing is trained, labels alone carry it, and whoever has the account's secret can list its wrong
answers later: a copy that repeats them was trained on this account's answers.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.honeypot.defences.base import DEFENCES, Defence
from doorward.metrics.statistics import binomial_tail_log2
from doorward.models import as_black_box
from doorward.randomness import Secret
from doorward.records import STRICT

__all__ = ["Dawn"]

_BITS = 2**32


@DEFENCES.register("dawn", paper="Szyller et al. 2021", gateway=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dawn(Defence):
    """Answer a keyed share of the queries with a keyed wrong class.

    Szyller, Atli, Marchal, Asokan (ACM MM 2021), *DAWN: Dynamic Adversarial Watermarking of Neural
    Networks*. Reproduced: the decision and the wrong class by HMAC, the share. Ours: what is hashed
    is the brightness of a coarse grid in coarse levels (public code hashes exact bytes), so that
    most queries with a little noise get the answer of before: see `test_defences`.

    Args:
        share: of the queries that are answered wrongly.
        cells: of the grid, along each side.
        levels: of brightness.
    """

    share: Annotated[float, Field(gt=0, le=0.5)] = 0.005
    cells: Annotated[int, Field(ge=1, le=64)] = 4
    levels: Annotated[int, Field(ge=2, le=256)] = 16

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """The answers; in the chosen ones the top class and the wrong class have changed places."""
        told = probabilities.clone()
        top = probabilities.argmax(1)
        wrong = self.classes(images, top, probabilities.shape[1], secret)
        rows = self.chosen(images, secret).nonzero().flatten()
        first, second = top[rows], wrong[rows]
        told[rows, first] = probabilities[rows, second]
        told[rows, second] = probabilities[rows, first]
        return told

    def chosen(self, images: Tensor, secret: Secret) -> Tensor:
        """Which images are answered wrongly, bool ``(N,)``."""
        bound, drawing = int(self.share * _BITS), secret.derive("dawn decision")
        drawn = [drawing.integer(key, _BITS) < bound for key in self._keys(images)]
        return torch.tensor(drawn, dtype=torch.bool)

    def classes(self, images: Tensor, right: Tensor, count: int, secret: Secret) -> Tensor:
        """The wrong class that each image would get, int64 ``(N,)``, never `right`."""
        drawing = secret.derive("dawn class")
        drawn = [drawing.integer(key, count - 1) for key in self._keys(images)]
        steps = torch.tensor(drawn, dtype=torch.int64)
        return (right + 1 + steps) % count

    def log2_p(self, suspect: object, asked: Tensor, right: Tensor, secret: Secret) -> float:
        """How surely a suspect was trained on this account's wrong answers.

        Args:
            suspect: anything that gives labels.
            asked: images ``(N, C, H, W)`` that the account asked about.
            right: the undefended model's class for each, int64 ``(N,)``.
            secret: of the account.

        Returns:
            log2 of the probability that a model which answers the wrongly answered images by chance
            among the other classes, or rightly, repeats so many of the wrong answers: a binomial
            tail with chance ``1 / (K - 1)``.

        Raises:
            InvalidInput: the account got no wrong answer.
        """
        rows = self.chosen(asked, secret)
        if not bool(rows.any()):
            raise InvalidInput(
                "the account got no wrong answer", why=f"it asked about {len(asked)} images"
            )
        box = as_black_box(suspect)
        answers = box.labels(asked[rows])
        count = box.num_classes or int(max(int(answers.max()), int(right.max()))) + 1
        wrong = self.classes(asked[rows], right[rows], count, secret)
        return binomial_tail_log2(int((answers == wrong).sum()), len(answers), 1 / (count - 1))

    def _keys(self, images: Tensor) -> list[bytes]:
        coarse = F.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), self.cells)
        levels = (coarse * self.levels).floor().clamp(0, self.levels - 1).to(torch.uint8)
        return [bytes(row.flatten().tolist()) for row in levels]
