"""The localised change: a mask and a pattern per row, as Neural Cleanse and MOTH invert them.

>>> change = Patches(2, (3, 8, 8))                   # zeros: grey, half opaque
>>> change(torch.ones(1, 3, 8, 8)).unique(), change.sizes().tolist()
(tensor([0.7500], grad_fn=...), [96.0, 96.0])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from doorward.hardening.transforms.base import Change, pick

__all__ = ["Patches"]


class Patches(Change):
    """``(1 - m) x + m p``, both through tanh.

    Args:
        rows: how many.
        image_shape: (C, H, W).
    """

    def __init__(self, rows: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__(rows, image_shape)
        channels, height, width = image_shape
        self.raw_masks = nn.Parameter(torch.zeros(rows, 1, height, width))
        self.raw_patterns = nn.Parameter(torch.zeros(rows, channels, height, width))

    def masks(self, rows: Tensor | None = None) -> Tensor:
        """(R, 1, H, W) in (0, 1)."""
        return torch.tanh(pick(self.raw_masks, rows)) / 2 + 0.5

    def patterns(self, rows: Tensor | None = None) -> Tensor:
        """(R, C, H, W) in (0, 1)."""
        return torch.tanh(pick(self.raw_patterns, rows)) / 2 + 0.5

    def changed(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The images under the patches."""
        masks, patterns = self.masks(rows)[:, None], self.patterns(rows)[:, None]
        return images + masks * (patterns - images)

    def sizes(self, rows: Tensor | None = None) -> Tensor:
        """MOTH's size, (R,): the mask summed over its copies for all channels."""
        return self.image_shape[0] * self.masks(rows).float().sum((1, 2, 3))

    @torch.no_grad()
    def start(self, draws: Sequence[torch.Generator], amount: float = 1.0) -> Self:
        """Masks and patterns uniform in the middle `amount` of [0, 1], as in MOTH."""
        for parameter in self.trained():
            uniform = [torch.rand(parameter.shape[1:], generator=draw) for draw in draws]
            middle = (2 * torch.stack(uniform) - 1) * amount * (1 - 1e-6)
            parameter.copy_(torch.atanh(middle).to(parameter))
        return self

    def like(self, rows: int) -> Self:
        """The same for another number of rows."""
        return type(self)(rows, self.image_shape)
