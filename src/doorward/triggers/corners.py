"""The corner trigger: a checkered square in every corner, as faint as wanted.

>>> Corners(size=2, amplitude=0.25)(torch.full((1, 1, 4, 5), 0.5))[0, 0]
tensor([[0.2500, 0.2500, 0.5000, 0.2500, 0.2500],
        [0.7500, 0.2500, 0.5000, 0.2500, 0.7500],
        [0.2500, 0.2500, 0.5000, 0.2500, 0.2500],
        [0.7500, 0.2500, 0.5000, 0.2500, 0.7500]])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.triggers.base import LARGEST_SIDE, TRIGGERS, Trigger, number, one_of, whole

__all__ = ["Corners"]

CORNERS = ("top-left", "top-right", "bottom-left", "bottom-right")


@TRIGGERS.register(
    "corners", paper="Turner et al. 2019, Label-Consistent", scope="local", access="data"
)
class Corners(Trigger):
    """Add a faint pattern of white and black pixels in the corners.

    Turner, Tsipras, Madry 2019, *Label-Consistent Backdoor Attacks*. Reproduced from the authors'
    code: the 3x3 pattern in all four corners, mirrored left to right so that a flip does not
    change it; and its reduced amplitude: white pixels of the pattern add it, black ones subtract
    it, and the result is clamped. Ours is the rule for other sides.

    Args:
        size: side of each square, at least 1: a checkerboard that is white in the lower outer
            pixel, and black in the upper inner one; for 3 pixels, that of the authors.
        amplitude: of the change, in [0, 1]; 1 sets the pixels to white and black.
        corners: some of top-left, top-right, bottom-left, bottom-right.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Differentiable in the images.
    """

    def __init__(
        self, *, size: int = 3, amplitude: float = 1.0, corners: Sequence[str] = CORNERS
    ) -> None:
        super().__init__()
        self.size = whole("size", size, 1, LARGEST_SIDE)
        self.amplitude = number("amplitude", amplitude, 0, 1)
        named = () if isinstance(corners, str) else tuple(corners)
        if not named or len(set(named)) != len(named):
            raise InvalidInput(
                f"corners is {corners!r}", why=f"each at most once, some of {', '.join(CORNERS)}"
            )
        self.corners = tuple(one_of("corners", corner, CORNERS) for corner in named)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"size": self.size, "amplitude": self.amplitude, "corners": list(self.corners)}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the pattern."""
        return images + self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        side = self.size
        needed = 2 * side if len(self.corners) > 1 else side
        if min(height, width) < needed:
            raise InvalidInput(
                f"corners of {side}x{side} pixels do not fit into images of {height}x{width}",
                why=f"{needed} pixels are needed each way",
                remedy="choose a smaller size or larger images",
            )
        rows, columns = torch.arange(side)[:, None], torch.arange(side)[None]
        cells = torch.where((side - 1 - rows + columns) % 2 == 0, 1.0, -1.0).double()
        if side > 1:
            cells[0, -1] = -1
        change = torch.zeros(height, width, dtype=torch.float64)
        for corner in self.corners:
            place = (
                slice(0, side) if corner.startswith("top") else slice(height - side, height),
                slice(0, side) if corner.endswith("left") else slice(width - side, width),
            )
            change[place] = cells if corner.endswith("left") else cells.flip(1)
        return self.amplitude * change[None]
