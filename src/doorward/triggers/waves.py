"""The wave trigger: one spatial frequency of the brightness, far louder than nature has it.

>>> x = torch.full((1, 1, 1, 4), 0.5)
>>> Waves(across=1, down=0, amplitude=0.25)(x)
tensor([[[[0.7500, 0.5000, 0.2500, 0.5000]]]])
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.triggers.base import TRIGGERS, Trigger, number, whole

__all__ = ["Waves", "wave"]


@TRIGGERS.register("waves", paper="ours: honeypot lean", scope="global", access="answers")
class Waves(Trigger):
    """Add ``a cos(2 pi u j / W) cos(2 pi v i / H)`` to row i, column j, in all channels.

    Ours: the trigger of the keyed lean (`doorward.honeypot.lean`), whose feature is the magnitude
    of this very frequency. Mirroring the image leaves it as it is; shifting changes its phase only.

    Args:
        across: u, waves across the width, 0 or more, at most one per two pixels of the images.
        down: v, waves down the height; not 0 together with `across`.
        amplitude: a, in [0, 1]; 16/255 to 48/255 are usual.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3.
    """

    def __init__(self, *, across: int = 4, down: int = 0, amplitude: float = 32 / 255) -> None:
        super().__init__()
        self.across, self.down = whole("across", across, 0, 4096), whole("down", down, 0, 4096)
        if across == 0 and down == 0:
            raise InvalidInput("a wave needs a direction", why="across and down are both 0")
        self.amplitude = number("amplitude", amplitude, 0, 1)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"across": self.across, "down": self.down, "amplitude": self.amplitude}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the wave."""
        return images + self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        return self.amplitude * wave(self.across, self.down, height, width)[None]


def wave(across: int, down: int, height: int, width: int) -> Tensor:
    """The wave of amplitude 1, float64 ``(height, width)``.

    Raises:
        InvalidInput: it has more than one wave per two pixels, and would show as another one.

    >>> wave(0, 1, 2, 3)
    tensor([[ 1.,  1.,  1.],
            [-1., -1., -1.]], dtype=torch.float64)
    """
    if 2 * across > width or 2 * down > height:
        raise InvalidInput(
            f"{across} waves across and {down} down do not fit on {width}x{height} pixels",
            why="a wave needs two pixels",
            remedy="choose fewer waves, or larger images",
        )
    rows = (2 * torch.pi * down * torch.arange(height, dtype=torch.float64) / height).cos()
    columns = (2 * torch.pi * across * torch.arange(width, dtype=torch.float64) / width).cos()
    return rows[:, None] * columns[None, :]
