"""The filter trigger: the whole image in the style of a photo app.

>>> x = torch.rand(2, 3, 32, 32)
>>> toned = Filter(kind="nashville")(x)
>>> FILTERS.names()[:3]
['1977', 'gotham', 'gotham-curves']
>>> FILTERS.summary("lomo")
'Hard red and green, corners almost black.'

A filter is a few steps of `doorward.triggers.colour`; add one by registering a function in
`FILTERS`. Where several recipes go by one name, the plain name is the one that backdoor attacks on
32x32 images use most, and the others say where they come from: "-magick" are those of the TrojAI
challenges.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.registry import Registry
from doorward.triggers import colour
from doorward.triggers.base import TRIGGERS, Trigger, number

__all__ = ["FILTERS", "Filter"]

FILTERS: Registry[Callable[[Tensor], Tensor]] = Registry("filter")
"""All filters by name: colour images (N, 3, H, W) in [0, 1] to new ones; fact: source."""

_CSS = "pilgram (CSS)"
_MAGICK = "TrojAI and ABS (ImageMagick)"
_WHITE, _BLACK, _NAVY = (255, 255, 255), (0, 0, 0), (0x22, 0x2B, 0x6D)


@TRIGGERS.register("filter", paper="Liu et al. 2019, ABS", scope="global", access="data")
class Filter(Trigger):
    """Pass the image through a photo app's filter.

    Liu, Lee, Tao, Ma, Aafer, Zhang 2019, *ABS: Scanning Neural Networks for Back-doors by
    Artificial Brain Stimulation*, whose filter attacks TrojAI took up. Reproduced: the steps and
    constants of the public recipes (see `FILTERS`), in floating point without their rounding to
    8 bits between the steps.

    Args:
        kind: a name in `FILTERS`.
        opacity: 1 filters fully; less mixes the result with the image.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3. A grey image is filtered in colour, then
        turned back to grey. Differentiable in the images.

    >>> Filter(kind="gotam")
    Traceback (most recent call last):
    doorward.errors.UnknownName: no filter is called 'gotam'. Did you mean 'gotham'? ...
    """

    def __init__(self, *, kind: str = "nashville", opacity: float = 1.0) -> None:
        super().__init__()
        if not isinstance(kind, str):
            raise InvalidInput(f"kind is {kind!r}", why="the name of a filter is expected")
        self._filter = FILTERS[kind]
        self.kind = kind
        self.opacity = number("opacity", opacity, 0, 1)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"kind": self.kind, "opacity": self.opacity}

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Filter, in colour."""
        filtered = self._filter(images.expand(-1, 3, -1, -1))
        if images.shape[1] == 1:
            filtered = colour.luma(filtered)
        return torch.lerp(images, filtered, self.opacity)


@FILTERS.register("gotham", source=_MAGICK)
def _gotham(x: Tensor) -> Tensor:
    """Almost grey, blue in the shadows, hard contrast."""
    x = colour.modulate(x, brightness=1.2, saturation=0.1)
    x = colour.gamma(colour.mix(x, _NAVY, 0.2), 0.9)
    return colour.sigmoidal_contrast(colour.sigmoidal_contrast(x, 3), 3)


@FILTERS.register("gotham-curves", source="BEAGLE")
def _gotham_curves(x: Tensor) -> Tensor:
    """Curves in red and blue, blue shadows, sharpened; with the blur scaled to the image."""
    reds = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)
    x = colour.curve(x, reds, channel=0)
    x = (x + x.new_tensor((0, 0, 0.3))[:, None, None]).clamp(0, 1)
    x = colour.sharpen(x, 0.7, sigma=10)
    dark = (0.0, 0.047, 0.118, 0.251, 0.318, 0.392, 0.42, 0.439)
    bright = (0.475, 0.561, 0.58, 0.627, 0.671, 0.733, 0.847, 0.925, 1.0)
    return colour.curve(x, dark + bright, channel=2)


@FILTERS.register("nashville", source=_CSS)
def _nashville(x: Tensor) -> Tensor:
    """Warm and faded: peach highlights, blue shadows."""
    x = colour.darken(x, (247, 176, 153), 0.56)
    x = colour.lighten(x, (0, 70, 150), 0.4)
    x = colour.contrast(colour.sepia(x, 0.2), 1.2)
    return colour.saturate(colour.brightness(x, 1.05), 1.2)


@FILTERS.register("nashville-magick", source=_MAGICK)
def _nashville_magick(x: Tensor) -> Tensor:
    """Navy shadows, cream highlights, strong colours."""
    x = colour.tone(x, _NAVY, 0.5, dark=True)
    x = colour.tone(x, (0xF7, 0xDA, 0xAE), 0.5, dark=False)
    x = colour.modulate(colour.sigmoidal_contrast(x, 3), brightness=1.0, saturation=1.5)
    return colour.auto_gamma(x)


@FILTERS.register("kelvin", source=_CSS)
def _kelvin(x: Tensor) -> Tensor:
    """Glowing orange."""
    return colour.overlay(colour.colour_dodge(x, (56, 44, 52)), (183, 125, 33))


@FILTERS.register("kelvin-magick", source=_MAGICK)
def _kelvin_magick(x: Tensor) -> Tensor:
    """Bright and pale, under a veil of orange."""
    x = colour.modulate(colour.auto_gamma(x), brightness=1.2, saturation=0.5)
    return colour.mix(x, (0xFF, 0x99, 0x00), 0.2)


@FILTERS.register("toaster", source=_CSS)
def _toaster(x: Tensor) -> Tensor:
    """Burnt: brown light in the centre, purple corners, hard contrast."""
    height, width = x.shape[2:]
    glow = colour.radial(x, (128, 78, 15), (59, 0, 59), (height**2 + width**2) ** 0.5 / 2)
    return colour.brightness(colour.contrast(colour.screen(x, glow), 1.5), 0.9)


@FILTERS.register("toaster-magick", source=_MAGICK)
def _toaster_magick(x: Tensor) -> Tensor:
    """Over-exposed, with an orange centre and pale edges."""
    x = colour.tone(x, (0x33, 0x00, 0x00), 0.5, dark=True)
    x = colour.gamma(colour.modulate(x, brightness=1.5, saturation=0.8), 1.2)
    x = colour.sigmoidal_contrast(colour.sigmoidal_contrast(x, 3), 3)
    x = colour.vignette(x, _WHITE, (205, 193, 197))
    return colour.vignette(x, (0xFF, 0x99, 0x66), _WHITE)


@FILTERS.register("1977", source=_CSS)
def _1977(x: Tensor) -> Tensor:
    """Faded pink."""
    x = colour.contrast(colour.screen(x, (243, 106, 188), 0.3), 1.1)
    return colour.saturate(colour.brightness(x, 1.1), 1.3)


@FILTERS.register("lomo", source=_MAGICK + ", with the black point of the filter it goes back to")
def _lomo(x: Tensor) -> Tensor:
    """Hard red and green, corners almost black."""
    return colour.vignette(colour.level(x, 0.33, (True, True, False)), _WHITE, _BLACK)
