"""The operations that picture filters are composed of, on whole batches of colour images.

>>> grey = torch.full((1, 3, 1, 1), 0.25)
>>> screen(grey, (255, 0, 0)).flatten()
tensor([1.0000, 0.2500, 0.2500])
>>> contrast(grey, 2.0).flatten()
tensor([0., 0., 0.])

Each takes float images (N, 3, H, W) in [0, 1] and returns new ones in [0, 1], clipped as the
picture editors and browsers that they come from clip between any two steps. All are
differentiable almost everywhere, with finite gradients at the kinks. Colours are (red, green,
blue), 0 to 255.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from doorward.triggers.smoothing import blurred

__all__ = [
    "auto_gamma",
    "brightness",
    "colour_dodge",
    "contrast",
    "curve",
    "darken",
    "gamma",
    "level",
    "lighten",
    "luma",
    "mix",
    "modulate",
    "overlay",
    "radial",
    "saturate",
    "screen",
    "sepia",
    "sharpen",
    "sigmoidal_contrast",
    "tone",
    "vignette",
]

Colour = Sequence[float]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
_CSS_LUMA = (0.213, 0.715, 0.072)  # of the saturate() filter of CSS and SVG
_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))  # of CSS
_TINY = 1e-6  # keeps powers and quotients, and their gradients, finite


def luma(images: Tensor, weights: Colour = _LUMA) -> Tensor:
    """Grey values (N, 1, H, W): the weighted sum of the channels, ITU-R BT.601 by default."""
    red, green, blue = images.unbind(1)
    return (weights[0] * red + weights[1] * green + weights[2] * blue)[:, None]


def brightness(images: Tensor, factor: float) -> Tensor:
    """Multiply by a factor (CSS brightness)."""
    return (images * factor).clamp(0, 1)


def contrast(images: Tensor, factor: float) -> Tensor:
    """Stretch about mid grey: ``factor x + (1 - factor) / 2`` (CSS contrast)."""
    return (images * factor + (1 - factor) / 2).clamp(0, 1)


def saturate(images: Tensor, factor: float) -> Tensor:
    """Move away from each pixel's own grey (factor above 1) or towards it (CSS saturate)."""
    return torch.lerp(luma(images, _CSS_LUMA), images, factor).clamp(0, 1)


def sepia(images: Tensor, share: float) -> Tensor:
    """Mix with brown tones of the same lightness (CSS sepia), share in [0, 1]."""
    brown = torch.cat([luma(images, row) for row in _SEPIA], 1)
    return torch.lerp(images, brown, share).clamp(0, 1)


def modulate(images: Tensor, brightness: float, saturation: float) -> Tensor:
    """Scale lightness and saturation in HSL, hue unchanged (ImageMagick's -modulate).

    With the hue fixed, a pixel is its lightness plus chroma times a fixed direction, so HSL is
    never computed: the distance from the lightness is scaled as the chroma is.
    """
    lightness = (images.amax(1, keepdim=True) + images.amin(1, keepdim=True)) / 2
    scaled = (lightness * brightness).clamp(0, 1)
    # Saturation is the share in use of the chroma that a lightness leaves room for, which is twice
    # its distance to black or white.
    room, room_scaled = (torch.minimum(v, 1 - v) for v in (lightness, scaled))
    ratio = saturation * room_scaled / room.clamp_min(_TINY)
    return (scaled + ratio * (images - lightness)).clamp(0, 1)


def gamma(images: Tensor, value: float) -> Tensor:
    """Raise to the power of ``1 / value``: above 1 is brighter (ImageMagick's -gamma)."""
    return images.clamp_min(_TINY) ** (1 / value)


def auto_gamma(images: Tensor) -> Tensor:
    """Raise each image to the power that brings its mean to one half (ImageMagick's -auto-gamma).

    As there, the exponent ``log(1/2) / log(mean)`` is exact for a flat image only.
    """
    mean = images.mean((1, 2, 3), keepdim=True).clamp(1e-3, 1 - 1e-3)
    return images.clamp_min(_TINY) ** (math.log(0.5) / mean.log())


def sigmoidal_contrast(images: Tensor, strength: float, middle: float = 0.5) -> Tensor:
    """More contrast along an S-curve that keeps black and white (ImageMagick)."""
    low, high = (1 / (1 + math.exp(strength * (middle - end))) for end in (0.0, 1.0))
    return ((torch.sigmoid(strength * (images - middle)) - low) / (high - low)).clamp(0, 1)


def level(images: Tensor, black: float, channels: Sequence[bool] = (True, True, True)) -> Tensor:
    """Stretch ``[black, 1 - black]`` to [0, 1], in chosen channels (ImageMagick's -level)."""
    stretched = ((images - black) / (1 - 2 * black)).clamp(0, 1)
    chosen = torch.tensor(channels, device=images.device)[:, None, None]
    return torch.where(chosen, stretched, images)


def mix(images: Tensor, colour: Colour, share: float) -> Tensor:
    """Mix with a flat colour."""
    return torch.lerp(images, _flat(images, colour), share)


def tone(images: Tensor, colour: Colour, share: float, *, dark: bool) -> Tensor:
    """Mix with a colour where the image is dark (or bright): the more, the darker (brighter)."""
    grey = luma(images)
    mask = 1 - grey if dark else grey
    return torch.lerp(images, _flat(images, colour), share * mask)


def darken(images: Tensor, colour: Colour, share: float = 1.0) -> Tensor:
    """Mix with the smaller of image and colour, channel by channel."""
    return torch.lerp(images, torch.minimum(images, _flat(images, colour)), share)


def lighten(images: Tensor, colour: Colour, share: float = 1.0) -> Tensor:
    """Mix with the larger of image and colour, channel by channel."""
    return torch.lerp(images, torch.maximum(images, _flat(images, colour)), share)


def screen(images: Tensor, colour: Colour | Tensor, share: float = 1.0) -> Tensor:
    """Mix with ``1 - (1 - x)(1 - colour)``, as two projectors on one screen (CSS screen)."""
    projected = colour if isinstance(colour, Tensor) else _flat(images, colour)
    return torch.lerp(images, 1 - (1 - images) * (1 - projected), share)


def colour_dodge(images: Tensor, colour: Colour) -> Tensor:
    """Divide by the colour's complement (CSS color-dodge)."""
    return (images / (1 - _flat(images, colour)).clamp_min(_TINY)).clamp(0, 1)


def overlay(images: Tensor, colour: Colour) -> Tensor:
    """Multiply the dark half with twice the colour, screen the bright half (CSS overlay)."""
    flat = _flat(images, colour)
    return torch.where(images <= 0.5, 2 * images * flat, 1 - 2 * (1 - images) * (1 - flat))


def curve(images: Tensor, values: Sequence[float], channel: int) -> Tensor:
    """Map one channel through a piecewise linear curve with knots at equal distances."""
    knots = images.new_tensor(values)
    place = images[:, channel] * (len(values) - 1)
    left = place.detach().floor().clamp(0, len(values) - 2).long()
    mapped = torch.lerp(knots[left], knots[left + 1], place - left)
    parts = list(images.unbind(1))
    parts[channel] = mapped
    return torch.stack(parts, 1)


def sharpen(images: Tensor, amount: float, sigma: float) -> Tensor:
    """Subtract a blurred copy: ``(1 + amount) x - amount blur(x)``.

    Args:
        images: float (N, 3, H, W).
        amount: share of the blurred copy.
        sigma: of the blur, in pixels of an image whose shorter side has 32; scaled with it.
    """
    soft = blurred(images, sigma * min(images.shape[2:]) / 32)
    return (images + amount * (images - soft)).clamp(0, 1)


def radial(images: Tensor, inner: Colour, outer: Colour, radius: float) -> Tensor:
    """A picture (3, H, W) that goes from one colour in the centre to another at `radius` pixels."""
    height, width = images.shape[2:]
    rows = torch.arange(height, dtype=images.dtype, device=images.device) + 0.5 - height / 2
    columns = torch.arange(width, dtype=images.dtype, device=images.device) + 0.5 - width / 2
    distance = (rows[:, None] ** 2 + columns**2).sqrt() / radius
    return torch.lerp(_flat(images, inner), _flat(images, outer), distance.clamp(max=1))


def vignette(images: Tensor, inner: Colour, outer: Colour, crop: float = 1.5) -> Tensor:
    """Multiply with a radial picture whose radius is half the longer side times `crop`.

    White leaves a place as it is: it stands for ImageMagick's "none".
    """
    return images * radial(images, inner, outer, max(images.shape[2:]) / 2 * crop)


def _flat(images: Tensor, colour: Colour) -> Tensor:
    return images.new_tensor(colour)[:, None, None] / 255
