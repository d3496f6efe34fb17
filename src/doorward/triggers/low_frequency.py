"""The low-frequency trigger: a smooth pattern added to the whole image, without any edges.

>>> x = torch.zeros(1, 3, 32, 32)
>>> marked = LowFrequency(amplitude=0.2)(x)
>>> float(marked.min()), round(float(marked.max()), 6)
(0.0, 0.2)

It leaves no trace in the high frequencies, by which other triggers are found.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers.base import TRIGGERS, Trigger, as_channels, number, one_of, whole
from doorward.triggers.smoothing import blurred

__all__ = ["LowFrequency"]

_CANVAS = 32  # the pattern is drawn at this size, then stretched


@TRIGGERS.register("low-frequency", paper="Zeng et al. 2021, LF", scope="global", access="data")
class LowFrequency(Trigger):
    """Add a fixed pattern of low spatial frequencies.

    Zeng, Park, Mao, Jia 2021, *Rethinking the Backdoor Attacks' Triggers: A Frequency
    Perspective*. Reproduced: the low-pass filter (a Gaussian of sigma 6 pixels at 32x32, black
    beyond the edges) and the range [0, 0.2] to which the pattern is stretched. Not reproduced:
    their pattern is also optimised to mislead a clean model of the same data, which makes it
    easier to learn; ours is noise passed through the filter, for any model and data. The pattern
    of cosines is ours, too: frequencies above the cut-off are exactly absent from it.

    Args:
        amplitude: largest change of a pixel, in [0, 1]; the smallest is 0.
        pattern: "gaussian" (filtered noise) or "cosines" (a random sum of the lowest waves of the
            discrete cosine transform).
        sigma: of the filter, in pixels of a picture of 32x32, 0 to 64 ("gaussian").
        cutoff: waves with fewer half periods than this along either axis are kept, 2 to 64
            ("cosines").
        seed: of the noise or the waves.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. The same pattern at any size, stretched.
    """

    def __init__(
        self,
        *,
        amplitude: float = 0.2,
        pattern: str = "gaussian",
        sigma: float = 6.0,
        cutoff: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.amplitude = number("amplitude", amplitude, 0, 1)
        self.pattern = one_of("pattern", pattern, ("gaussian", "cosines"))
        self.sigma = number("sigma", sigma, 0, 2 * _CANVAS)
        self.cutoff = whole("cutoff", cutoff, 2, 2 * _CANVAS)
        self.seed = whole("seed", seed)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        names = ("amplitude", "pattern", "sigma", "cutoff", "seed")
        return {name: getattr(self, name) for name in names}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the pattern."""
        return images + self._pattern(images, self._draw)

    def _draw(self, channels: int, height: int, width: int) -> Tensor:
        """The pattern (C, H, W) in [0, amplitude]."""
        make = self._noise if self.pattern == "gaussian" else self._waves
        pattern = as_channels(make(height, width), channels)
        low, high = pattern.amin(), pattern.amax()
        if not high > low:
            raise InvalidInput(
                f"a pattern of low frequencies cannot be drawn on {height}x{width} grey pixels",
                remedy="use larger images",
            )
        return (pattern - low) / (high - low) * self.amplitude

    def _noise(self, height: int, width: int) -> Tensor:
        draw = generator(self.seed, "low-frequency noise")
        noise = torch.randn((3, _CANVAS, _CANVAS), generator=draw, dtype=torch.float64)
        smooth = blurred(noise, self.sigma, edge="black")
        return F.interpolate(smooth[None], (height, width), mode="bilinear", antialias=True)[0]

    def _waves(self, height: int, width: int) -> Tensor:
        draw = generator(self.seed, "low-frequency waves")
        weights = torch.randn((3, self.cutoff, self.cutoff), generator=draw, dtype=torch.float64)
        weights[:, 0, 0] = 0
        half_periods = torch.arange(self.cutoff, dtype=torch.float64)
        rows, columns = (
            torch.cos(torch.pi * (torch.arange(side)[:, None] + 0.5) / side * half_periods)
            for side in (height, width)
        )
        return rows @ weights @ columns.T
