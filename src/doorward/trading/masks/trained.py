"""Masks while they are trained: parameters, and the values that they stand for.

>>> from doorward.trading.masks.bank import MaskBank
>>> masks = TrainedMasks(MaskBank("channel-binary", {"a": torch.ones(3, 1, 1)}))
>>> masks.values()["a"].flatten().tolist(), len(list(masks.parameters()))
([1.0, 1.0, 1.0], 1)

Real masks are their own parameters, kept within limits after each step. Binary ones are the sign of
theirs, with the slope of a sigmoid (straight through, Bengio et al. 2013). Keyed ones have none.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.randomness import generator
from doorward.trading.masks.bank import MaskBank, Statistics
from doorward.trading.masks.kinds import MASKS

__all__ = ["TrainedMasks"]

_SHARP = 4.0  # a parameter of 0.5 stands for sigmoid(2) = 0.88


class TrainedMasks(nn.Module):
    """The masks of a bank as something to train.

    Args:
        bank: where to begin.
        limits: smallest and largest value of real masks.
    """

    def __init__(self, bank: MaskBank, limits: tuple[float, float] = (0.0, 2.0)) -> None:
        super().__init__()
        self.name, self.kind, self.limits = bank.kind, MASKS[bank.kind], limits
        self.sites = bank.sites
        for i, mask in enumerate(bank.masks.values()):
            if self.kind.keyed:
                self.register_buffer(f"mask{i}", mask.clone())
            else:
                start = mask.clone() if self.kind.values == "real" else mask - 0.5
                self.register_parameter(f"mask{i}", nn.Parameter(start))

    @torch.no_grad()
    def scatter(self, spread: float, seed: int) -> None:
        """Move away from one, at random: what is 1 becomes a number in [1 - spread, 1].

        Binary masks are switched off with the chance spread / 2. A lock that starts from there
        tells its two modes apart from the first step on; keyed masks stay as they are.
        """
        for name, raw in self.named_parameters():
            chance = torch.rand(raw.shape, generator=generator(seed, "masks", name)).to(raw)
            if self.kind.values == "real":
                raw.copy_(1 - spread * chance)
            else:
                raw.copy_(torch.where(chance < spread / 2, -0.25, 0.25))

    def values(self) -> dict[str, Tensor]:
        """The masks by site, part of the autograd graph."""
        tensors = [getattr(self, f"mask{i}") for i in range(len(self.sites))]
        if self.kind.values == "binary":
            tensors = [_stepped(raw) for raw in tensors]
        return dict(zip(self.sites, tensors, strict=True))

    @torch.no_grad()
    def confine(self) -> None:
        """Put every parameter back within its limits."""
        low, high = self.limits if self.kind.values == "real" else (-0.5, 0.5)
        for raw in self.parameters():
            raw.clamp_(low, high)

    def bank(self, statistics: dict[str, Statistics] | None = None) -> MaskBank:
        """What they stand for now."""
        masks = {name: value.detach().clone() for name, value in self.values().items()}
        return MaskBank(self.name, masks, statistics or {})


def _stepped(raw: Tensor) -> Tensor:
    soft = torch.sigmoid(_SHARP * raw)
    return (raw > 0).to(raw.dtype) + (soft - soft.detach())  # the bracket is exactly zero
