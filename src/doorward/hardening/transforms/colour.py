"""Changes of colour: a curve per channel, a matrix between channels, offsets.

>>> from doorward.hardening.transforms import Pervasive
>>> change = Pervasive(1, (3, 4, 4), Space(families=("colour",)))
>>> change.parts["colour"].assign(matrix=torch.eye(3).roll(1, 0) * 0.5 + torch.eye(3) * 0.5)
>>> red = torch.zeros(1, 3, 4, 4); red[:, 0] = 1
>>> change(red)[0, 0, :, 0, 0]                       # half of the red has become green
tensor([0.5000, 0.5000, 0.0000], grad_fn=...)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.hardening.transforms.base import bounded, pick, raw_of
from doorward.hardening.transforms.space import FAMILIES, Part, Space, deviation

__all__ = ["Colour"]


@FAMILIES.register("colour", expresses="photo filters, gamma, contrast, tints")
class Colour(Part):
    """``M (x + curve(x)) + offset``, the same at every pixel.

    The curve is piecewise linear between equally spaced knots in [0, 1]; M is the identity plus
    a bounded matrix. Tone curves and cross-channel tints are what the filter triggers of the
    literature are made of; hue shifts that depend on the picture are outside.
    """

    def __init__(
        self, rows: int, image_shape: tuple[int, int, int], space: Space, coder: object = None
    ) -> None:
        super().__init__(rows, image_shape, space)
        channels = image_shape[0]
        self.bound = space.colour_bound
        self.matrix = nn.Parameter(torch.zeros(rows, channels, channels))
        self.offset = nn.Parameter(torch.zeros(rows, channels))
        self.curve = nn.Parameter(torch.zeros(rows, channels, space.colour_knots))

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """Curve, matrix, offset."""
        matrix, offset, curve = self._values(rows)
        last = curve.shape[2] - 1
        place = images.clamp(0, 1) * last
        bent = images
        for knot in range(last + 1):
            nearness = (1 - (place - knot).abs()).clamp_min(0)
            bent = bent + curve[:, None, :, knot, None, None] * nearness
        mixed = (matrix[:, None] @ bent.flatten(3)).view_as(bent)
        return bent + mixed + offset[:, None, :, None, None]

    def sizes(self, rows: Tensor | None) -> Tensor:
        """All entries as shares of their bounds."""
        matrix, offset, curve = self._values(rows)
        half = self.bound / 2
        return deviation((matrix, self.bound), (offset, half), (curve, half))

    @torch.no_grad()
    def assign(
        self,
        matrix: Tensor | None = None,
        offset: Tensor | None = None,
        curve: Tensor | None = None,
    ) -> None:
        """Set all rows: matrix (C, C) with the identity in it, offset (C,), curve (C, knots)."""
        if matrix is not None:
            self.matrix.copy_(raw_of(matrix - torch.eye(len(matrix)).to(matrix), self.bound))
        if offset is not None:
            self.offset.copy_(raw_of(offset, self.bound / 2))
        if curve is not None:
            self.curve.copy_(raw_of(curve, self.bound / 2))

    def _values(self, rows: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        return (
            bounded(pick(self.matrix, rows), self.bound),
            bounded(pick(self.offset, rows), self.bound / 2),
            bounded(pick(self.curve, rows), self.bound / 2),
        )
