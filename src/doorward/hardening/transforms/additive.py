"""Changes that are added: a smooth pattern of low frequencies, the same on every image.

>>> from doorward.hardening.transforms import Pervasive
>>> change = Pervasive(1, (1, 8, 8), Space(families=("additive",), additive_bound=0.1))
>>> change.parts["additive"].waves.data[0, 0, 0, 0] = 1e4            # the constant pattern
>>> change(torch.full((1, 1, 8, 8), 0.5)).unique()
tensor([0.6000], grad_fn=...)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.hardening.transforms.base import bounded, pick
from doorward.hardening.transforms.space import FAMILIES, Part, Space, deviation

__all__ = ["Additive"]


@FAMILIES.register("additive", expresses="SIG, low-frequency and smooth universal perturbations")
class Additive(Part):
    """``x + pattern``, the pattern a bounded sum of cosines along both axes (DCT-II)."""

    def __init__(
        self, rows: int, image_shape: tuple[int, int, int], space: Space, coder: object = None
    ) -> None:
        super().__init__(rows, image_shape, space)
        channels, height, width = image_shape
        tall, wide = min(space.frequencies, height), min(space.frequencies, width)
        self.bound = space.additive_bound
        self.waves = nn.Parameter(torch.zeros(rows, channels, tall, wide))
        # Many waves add up: scaled so that a step of each moves the sum as far as for few.
        self.register_buffer("down", _cosines(height, tall) * (2 / tall) ** 0.5, persistent=False)
        self.register_buffer("right", _cosines(width, wide) * (2 / wide) ** 0.5, persistent=False)
        self.down: Tensor
        self.right: Tensor

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The images plus the pattern."""
        return images + self.pattern(rows)[:, None]

    def sizes(self, rows: Tensor | None) -> Tensor:
        """Mean absolute value of the pattern as a share of the bound."""
        return deviation((self.pattern(rows), self.bound))

    def pattern(self, rows: Tensor | None) -> Tensor:
        """What is added, (R, C, H, W)."""
        return bounded(self.down @ pick(self.waves, rows) @ self.right.T, self.bound)


def _cosines(size: int, count: int) -> Tensor:
    """(size, count): column k is ``cos(pi (i + 1/2) k / size)``."""
    place = torch.arange(size, dtype=torch.float64)[:, None] + 0.5
    return torch.cos(torch.pi * place * torch.arange(count) / size).float()
