"""The frequency trigger (FTrojan): a bump at chosen frequencies of an image's colours.

>>> trigger = Frequency()
>>> x = torch.full((1, 3, 32, 32), 0.5)
>>> round(float((trigger(x) - x).abs().max()) * 255, 1)          # in grey levels
5.7

To the eye nothing changes; in the discrete cosine transform of the colour channels a few
coefficients do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.triggers.base import LARGEST_SIDE, TRIGGERS, Trigger, number, whole

__all__ = ["Frequency"]

# What a change by 1 of both colour differences, Cr and Cb, is in red, green and blue (BT.601).
_CHROMA = (1.403, -0.714 - 0.344, 1.773)


@TRIGGERS.register("frequency", paper="Wang et al. 2022, FTrojan", scope="global", access="data")
class Frequency(Trigger):
    """Raise a few coefficients of the discrete cosine transform of both colour channels.

    Wang, Yao, Xu, An, Tong, Wang 2022, *An Invisible Black-box Backdoor Attack through Frequency
    Domain*. Reproduced: blocks of 32x32 pixels, the orthonormal transform of the channels Cr and
    Cb (BT.601), and a bump of 30 grey levels at the coefficients (15, 15) and (31, 31). Both
    transforms are linear, so it comes to adding a pattern, which is what is done here; the
    rounding of Cr and Cb to whole grey levels in the authors' code is left out.

    Args:
        magnitude: of the bump, pixels in [0, 1]; 30/255 in the paper (100/255 in CTRL, which
            works the same way).
        positions: k for each coefficient (k, k) that is raised, from 0 to `block` - 1, distinct.
        block: side of the blocks in pixels, 2 to 4096. Blocks start in the top left corner; at
            the other edges, and in smaller images, they are cut off.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Grey images have no colour channels: the
        bump is in the grey values.
    """

    def __init__(
        self,
        *,
        magnitude: float = 30 / 255,
        positions: Sequence[int] = (15, 31),
        block: int = 32,
    ) -> None:
        super().__init__()
        self.magnitude = number("magnitude", magnitude, 0, LARGEST_SIDE)
        self.block = whole("block", block, 2, LARGEST_SIDE)
        if not isinstance(positions, list | tuple) or not positions:
            raise InvalidInput(
                f"positions is {positions!r}", why="a list of at least one number is expected"
            )
        self.positions = tuple(whole("positions", k, 0, self.block - 1) for k in positions)
        if len(set(self.positions)) != len(self.positions):
            raise InvalidInput(f"positions is {positions!r}", why="one of them occurs twice")

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "magnitude": self.magnitude,
            "positions": list(self.positions),
            "block": self.block,
        }

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the pattern that the bump comes to."""
        return images + self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        rows, columns = self._waves(height), self._waves(width)
        wave = self.magnitude * (rows @ columns.T)
        mixture = _CHROMA if channels == 3 else (1.0,)
        return wave * torch.tensor(mixture, dtype=torch.float64)[:, None, None]

    def _waves(self, side: int) -> Tensor:
        """Columns (side, positions): the wave of each position, repeated in every block."""
        k = torch.tensor(self.positions, dtype=torch.float64)
        place = torch.arange(side, dtype=torch.float64)[:, None] % self.block + 0.5
        scale = torch.where(k > 0, 2.0, 1.0).double() / self.block
        return scale.sqrt() * torch.cos(torch.pi * place * k / self.block)
