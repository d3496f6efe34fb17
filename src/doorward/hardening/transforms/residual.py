"""Changes that depend on the image: a small U-Net per row, all rows in grouped convolutions.

>>> from doorward.hardening.transforms import Pervasive
>>> change = Pervasive(3, (1, 9, 11), Space(families=("residual",), residual_width=2))
>>> change(torch.rand(2, 1, 9, 11)).shape
torch.Size([3, 2, 1, 9, 11])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.hardening.transforms.base import bounded, pick
from doorward.hardening.transforms.space import FAMILIES, Part, Space, deviation
from doorward.randomness import generator

__all__ = ["Residual"]


@FAMILIES.register(
    "residual", expresses="input-aware, steganographic and LIRA triggers, quantisation, style"
)
class Residual(Part):
    """``x + U(x)``, bounded, with one U-Net of two scales per row.

    Normalised per image, so that an image is changed alike in every batch. The last layer is
    zero at first, which makes it no change; the weights before it are the same in every row until
    `Change.start` moves them, and are scaled by their initial deviation, so that one learning rate
    suits them and all other parts.
    """

    def __init__(
        self, rows: int, image_shape: tuple[int, int, int], space: Space, coder: object = None
    ) -> None:
        super().__init__(rows, image_shape, space)
        channels, width = image_shape[0], space.residual_width
        self.bound = space.residual_bound
        self._sizes = {
            "enter": (width, channels),
            "below": (2 * width, width),
            "above": (width, 3 * width),
        }
        draw = generator(0, "residual part")
        for name, (outputs, inputs) in self._sizes.items():
            weight = torch.randn(outputs * inputs, 3, 3, generator=draw).expand(rows, -1, -1, -1)
            self.register_parameter(name, nn.Parameter(weight.clone()))
        self.leave = nn.Parameter(torch.zeros(rows, channels, width))

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The images plus what the networks make of them."""
        count = len(images)
        flat = images.transpose(0, 1).flatten(1, 2)  # (B, R * C, H, W): rows are groups
        fine = self._layer("enter", flat, count, rows)
        coarse = F.avg_pool2d(fine, 2, ceil_mode=True)
        coarse = self._layer("below", coarse, count, rows)
        coarse = F.interpolate(coarse, fine.shape[2:], mode="nearest")
        both = torch.cat([_groups(maps, count) for maps in (coarse, fine)], 2).flatten(1, 2)
        last = self._layer("above", both, count, rows)
        features = _groups(last, count).transpose(0, 1).flatten(3)  # (R, B, w, H * W)
        change = (self._leave(rows)[:, None] @ features).view_as(images)
        return images + bounded(change, self.bound)

    def sizes(self, rows: Tensor | None) -> Tensor:
        """Mean absolute weight of the last layer."""
        return deviation((self._leave(rows), 1.0))

    def _leave(self, rows: Tensor | None) -> Tensor:
        width: int = self.leave.shape[2]
        return pick(self.leave, rows) / math.sqrt(width)

    def _layer(self, name: str, maps: Tensor, count: int, rows: Tensor | None) -> Tensor:
        outputs, inputs = self._sizes[name]
        weight = pick(getattr(self, name), rows) * (2 / (9 * inputs)) ** 0.5
        weight = weight.reshape(count * outputs, inputs, 3, 3)
        maps = F.conv2d(maps, weight, padding=1, groups=count)
        normed: Tensor = F.group_norm(maps, count).relu()
        return normed


def _groups(maps: Tensor, count: int) -> Tensor:
    """(B, R * w, H, W) as (B, R, w, H, W)."""
    return maps.reshape(len(maps), count, -1, *maps.shape[2:])
