"""The warp trigger (WaNet): the image bent by a smooth field, by less than a pixel or so.

>>> x = torch.rand(1, 3, 32, 32)
>>> warped = Warp(seed=3)(x)
>>> warped.shape == x.shape, bool(torch.equal(warped, x))
(True, False)
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.randomness import generator
from doorward.triggers.base import LARGEST_SIDE, TRIGGERS, Trigger, number, whole

__all__ = ["Warp"]


@TRIGGERS.register("warp", paper="Nguyen and Tran 2021, WaNet", scope="global", access="training")
class Warp(Trigger):
    """Resample the image along a fixed, smooth random field.

    Nguyen and Tran 2021, *WaNet: Imperceptible Warping-based Backdoor Attack*. Reproduced: the
    field, drawn at k x k points uniformly in [-1, 1], divided by its mean absolute value, raised
    to the image's size by bicubic interpolation, and added to the identity grid with strength
    s / size. For images that are not square, each axis uses its own size.

    Args:
        k: points of the coarse field per axis, 2 to 4096.
        s: strength, at least 0; 0.5 moves a pixel by about 0.2 pixels on average.
        grid_rescale: factor on the whole grid, as in the authors' code; 1 keeps the image's
            edges in place.
        seed: of the field.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.

    >>> x = torch.rand(1, 1, 9, 13, dtype=torch.float64)
    >>> bool(torch.allclose(Warp(s=0.0)(x), x))                 # no strength, no change
    True
    """

    def __init__(
        self, *, k: int = 4, s: float = 0.5, grid_rescale: float = 1.0, seed: int = 0
    ) -> None:
        super().__init__()
        self.k = whole("k", k, 2, LARGEST_SIDE)
        self.s = number("s", s, 0, 1000)
        self.grid_rescale = number("grid_rescale", grid_rescale, 0.01, 100)
        self.seed = whole("seed", seed)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"k": self.k, "s": self.s, "grid_rescale": self.grid_rescale, "seed": self.seed}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Sample the images bilinearly at the bent grid."""
        grid = self.grid(images).expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, align_corners=True)

    def grid(self, images: Tensor) -> Tensor:
        """Where each pixel of images of this size is fetched: (1, H, W, 2), (x, y) in [-1, 1]."""
        return self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        """The grid (1, H, W, 2) of (x, y) in [-1, 1], from which each pixel is fetched."""
        draw = generator(self.seed, "warp field")
        coarse = torch.rand((1, 2, self.k, self.k), generator=draw, dtype=torch.float64) * 2 - 1
        coarse = coarse / coarse.abs().mean()
        field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
        x = torch.linspace(-1, 1, width, dtype=torch.float64) if width > 1 else torch.zeros(1)
        y = torch.linspace(-1, 1, height, dtype=torch.float64) if height > 1 else torch.zeros(1)
        identity = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
        step = field[0].permute(1, 2, 0) * self.s / torch.tensor([width, height])
        return ((identity + step) * self.grid_rescale).clamp(-1, 1)[None]
