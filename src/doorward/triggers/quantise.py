"""The quantisation trigger (BppAttack): fewer colours, and dots that hide how few.

>>> import torch
>>> x = torch.full((1, 1, 1, 4), 0.5)
>>> Quantise(levels=2)(x)
tensor([[[[0., 1., 0., 1.]]]])
>>> Quantise(levels=5, dither=False)(x + 0.1)
tensor([[[[0.5000, 0.5000, 0.5000, 0.5000]]]])
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from doorward.errors import InvalidInput
from doorward.triggers.base import TRIGGERS, Trigger, whole

__all__ = ["Quantise"]

# Pixels are first put on a grid that holds all 8-bit grey levels, so that rounding errors decide
# nothing: the dots are the same in single and double precision.
_GRID = 255 * 4096


@TRIGGERS.register("quantise", paper="Wang et al. 2022, BppAttack", scope="global", access="data")
class Quantise(Trigger):
    """Round every channel to a few levels, with the error passed on to the next pixels.

    Wang, Zhai, Ma 2022, *BppAttack: Stealthy and Efficient Trojan Attacks against Deep Neural
    Networks via Image Quantization and Contrastive Adversarial Learning*. Reproduced: 8 levels per
    channel and dithering by Floyd and Steinberg (7/16 to the right, 3/16, 5/16 and 1/16 to the row
    below). The paper also trains with residuals of other images as negative samples; that is a
    matter of training, not of the trigger.

    Args:
        levels: of each channel, 2 to 256; 8 in the paper (its `squeeze_num`).
        dither: pass the errors on. Otherwise each pixel is rounded by itself.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. Rounding has no useful gradient: that of
        the result is passed straight through to the images.
    """

    def __init__(self, *, levels: int = 8, dither: bool = True) -> None:
        super().__init__()
        self.levels = whole("levels", levels, 2, 256)
        if not isinstance(dither, bool):
            raise InvalidInput(f"dither is {dither!r}", why="true or false is expected")
        self.dither = dither

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"levels": self.levels, "dither": self.dither}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Round, and let the gradient through."""
        steps = self.levels - 1
        plain = images.detach()
        wanted = (plain * _GRID).round().float() * (steps / _GRID)
        found = _dithered(wanted) if self.dither else wanted.round()
        return found.to(images.dtype) / steps + (images - plain)


def _dithered(wanted: Tensor) -> Tensor:
    """Whole numbers (N, C, H, W) near the wanted ones, by Floyd and Steinberg.

    The classic loop visits the pixels one by one. A pixel waits only for its left neighbour and
    three above, so all with the same column + 2 row are independent: they are one slice here, in
    all images and channels at once, and a 32x32 image takes 94 steps instead of 1024.
    """
    count, channels, height, width = wanted.shape
    # One pixel of margin left, right and below takes the errors that leave the image.
    row = width + 2
    canvas = wanted.new_zeros(height + 1, row, count * channels)
    canvas[:height, 1:-1] = wanted.permute(2, 3, 0, 1).flatten(2)
    pixels = canvas.flatten(0, 1)
    for wave in range(width + 2 * (height - 1)):
        top, bottom = max(0, (wave - width + 2) // 2), min(height - 1, wave // 2)
        # From a row to the next, the wave is two columns further left.
        start = top * row + 1 + wave - 2 * top
        stop = start + (bottom - top) * (row - 2) + 1

        def ahead(by: int, start: int = start, stop: int = stop) -> Tensor:
            return pixels[start + by : stop + by : row - 2]

        here = ahead(0)
        rounded = here.round()
        error = here - rounded
        here.copy_(rounded)
        # Product and sum are two roundings on every machine, and a pixel's errors arrive in the
        # order of the pixel-by-pixel loop: the dots are the same in any batch, to the last bit.
        ahead(row - 1).add_(error * (3 / 16))
        ahead(1).add_(error * (7 / 16))
        ahead(row).add_(error * (5 / 16))
        ahead(row + 1).add_(error * (1 / 16))
    found = canvas[:height, 1:-1].reshape(height, width, count, channels)
    return found.permute(2, 3, 0, 1)
