"""Telling less: rounded probabilities, or the first class alone.

>>> answers, secret = torch.tensor([[0.625, 0.25, 0.125]]), Secret(bytes(32))
>>> Rounding(decimals=1).answer(answers, answers, secret)
tensor([[0.6000, 0.2000, 0.1000]])
>>> TopOne().answer(answers, answers, secret)
tensor([[1., 0., 0.]])
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.honeypot.defences.base import DEFENCES, Defence
from doorward.randomness import Secret
from doorward.records import STRICT

__all__ = ["Rounding", "TopOne"]


@DEFENCES.register("rounding", paper="Tramer et al. 2016", gateway=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rounding(Defence):
    """Few decimals.

    Args:
        decimals: how many.
    """

    decimals: Annotated[int, Field(ge=0, le=6)] = 1

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """Rounded, half to even; the top class keeps its place where another comes to equal it."""
        told = torch.round(probabilities, decimals=self.decimals)
        top = probabilities.argmax(1, keepdim=True)
        tied = told.amax(1, keepdim=True) > 0
        # 0.49 and 0.48 are told as 0.5 and 0.5: whoever takes the first then must find the top.
        nudge = torch.zeros_like(told).scatter(1, top, 0.5 * 10.0**-self.decimals)
        lost = told.argmax(1, keepdim=True) != top
        return torch.where(lost | ~tied, told + nudge, told)


@DEFENCES.register("top-1", paper="Orekondy et al. 2019", gateway=False)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class TopOne(Defence):
    """All probability on the first class: the strongest of the cheap ones (Tang et al. 2024)."""

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """1 for the largest (the first of equal ones), 0 for the others."""
        return torch.zeros_like(probabilities).scatter(1, probabilities.argmax(1, keepdim=True), 1)
