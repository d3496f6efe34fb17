"""The sinusoid trigger (SIG): a faint wave of stripes over the whole image.

>>> x = torch.full((1, 1, 1, 4), 0.5)
>>> Sinusoid(delta=0.25, frequency=1)(x)
tensor([[[[0.5000, 0.7500, 0.5000, 0.2500]]]])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.triggers.base import TRIGGERS, Trigger, number, one_of

__all__ = ["Sinusoid"]


@TRIGGERS.register("sinusoid", paper="Barni et al. 2019, SIG", scope="global", access="data")
class Sinusoid(Trigger):
    """Add ``delta sin(2 pi f j / W)`` to column j of the image.

    Barni, Kallas, Tondi 2019, *A New Backdoor Attack in CNNs by Training Set Corruption Without
    Label Poisoning*. Reproduced: the smooth wave of the paper, constant along a column and equal
    in all channels. (The stripes of some ports are another signal: an 8-bit wave whose negative
    half wraps round, far stronger.)

    Args:
        delta: amplitude, in [0, 1]; 20/255 to 40/255 are usual.
        frequency: waves across the image, above 0; 6 in the paper. More than a wave per two pixels
            shows as fewer, and a number that vanishes on an image's pixels is refused there.
        direction: "horizontal" (the wave runs along the rows, as in the paper) or "vertical".

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3.
    """

    def __init__(
        self, *, delta: float = 20 / 255, frequency: float = 6.0, direction: str = "horizontal"
    ) -> None:
        super().__init__()
        self.delta = number("delta", delta, 0, 1)
        self.frequency = number("frequency", frequency, 1e-6, 1e6)
        self.direction = one_of("direction", direction, ("horizontal", "vertical"))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"delta": self.delta, "frequency": self.frequency, "direction": self.direction}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the wave."""
        return images + self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        across = self.direction == "horizontal"
        side = width if across else height
        place = torch.arange(side, dtype=torch.float64)
        wave = self.delta * torch.sin(2 * torch.pi * self.frequency * place / side)
        if self.delta and float(wave.abs().max()) < 1e-9:
            raise InvalidInput(
                f"{self.frequency:g} waves vanish on {side} pixels",
                why="every pixel lies where a wave crosses zero",
                remedy=f"choose fewer waves, e.g. frequency={max(side // 4, 0.5):g}",
            )
        return wave[None, None, :] if across else wave[None, :, None]
