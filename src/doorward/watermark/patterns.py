"""Trigger images out of seeds: a fixed, public generator of structured abstract pictures.

The judge of an ownership claim draws the owner's trigger images again from the seeds, so the
owner had no freedom to slip in images that already fool every model:

>>> images = generate([bytes(32), bytes(31) + b"!"], (3, 32, 32))
>>> images.shape, images.dtype
(torch.Size([2, 3, 32, 32]), torch.uint8)

A seed gives the same bytes on every platform and with every version of NumPy and PyTorch (see
`doorward.watermark.fields`), and the same picture at every size. A generator never changes: an
improved one gets a new name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.registry import Registry
from doorward.watermark.fields import DRAWS, FAMILIES, Draws, Field, coordinates, wave

__all__ = ["DEFAULT_GENERATOR", "GENERATORS", "SEED_BYTES", "check_image_shape", "generate"]

SEED_BYTES = 32
DEFAULT_GENERATOR = "abstract-v1"

_SMALLEST, _LARGEST = 8, 1024
_BLOCK = 2**16  # pixels worked on at a time, so that the arrays stay in the CPU's cache
_FAMILY_ORDER = (
    "waves",
    "network",
    "kaleidoscope",
    "cells",
    "marble",
    "fractal",
    "tiles",
    "ripples",
)
_LUMA = (0.299, 0.587, 0.114)

PatternGenerator = Callable[[Sequence[bytes], tuple[int, int, int]], Tensor]

GENERATORS: Registry[PatternGenerator] = Registry("pattern generator")
"""Generators by their versioned name; a key and a claim name the one that they use."""


def generate(
    seeds: Sequence[bytes],
    image_shape: tuple[int, int, int],
    generator: str = DEFAULT_GENERATOR,
) -> Tensor:
    """Draw one abstract image per seed.

    Args:
        seeds: `n` seeds of exactly 32 bytes.
        image_shape: ``(C, H, W)`` with 1 or 3 channels and sides of 8 to 1024 pixels. The
            one-channel picture is the grey version of the three-channel one.
        generator: a name in `GENERATORS`.

    Returns:
        uint8 images, shape ``(n, C, H, W)``, on the CPU; each uses the full range 0..255.

    Raises:
        InvalidInput: a seed has another length, or the shape is outside these limits.
        UnknownName: there is no generator of that name.

    >>> grey = generate([bytes(32)], (1, 28, 28))
    >>> int(grey.min()), int(grey.max())
    (0, 255)
    """
    draw = GENERATORS[generator]
    check_image_shape(image_shape)
    for index, seed in enumerate(seeds):
        if len(seed) != SEED_BYTES:
            raise InvalidInput(
                f"seed {index} has {len(seed)} bytes", why=f"a seed has {SEED_BYTES} bytes"
            )
    return draw(seeds, image_shape)


def check_image_shape(image_shape: Sequence[int]) -> None:
    """Refuse an image shape that `generate` cannot draw.

    Raises:
        InvalidInput: not three whole numbers, not 1 or 3 channels, or a side outside 8..1024.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or shape[0] not in (1, 3) or not all(isinstance(s, int) for s in shape):
        raise InvalidInput(
            f"the image shape {shape} is not usable",
            why="it is (channels, height, width), with 1 or 3 channels",
        )
    if not all(_SMALLEST <= side <= _LARGEST for side in shape[1:]):
        raise InvalidInput(
            f"images of {shape[1]}x{shape[2]} pixels cannot be drawn",
            why=f"sides of {_SMALLEST} to {_LARGEST} pixels are possible",
        )


@GENERATORS.register("abstract-v1", families=len(_FAMILY_ORDER))
def abstract_v1(seeds: Sequence[bytes], image_shape: tuple[int, int, int]) -> Tensor:
    """Waves, networks, kaleidoscopes, cells, marble, fractals, tiles and ripples, in colour.

    Our own design in the spirit of the 100 abstract pictures of Adi et al. (2018), which were
    downloaded. Numbers come from SHAKE-256 over the seed; each picture is drawn at twice the
    size and averaged, so that fine lines do not alias.
    """
    channels, height, width = image_shape
    images = np.empty((len(seeds), channels, height, width), dtype=np.uint8)
    numbers = np.empty((len(seeds), DRAWS))
    for row, seed in enumerate(seeds):
        stream = hashlib.shake_256(b"doorward abstract-v1" + seed).digest(8 * DRAWS)
        # The upper 53 of 64 bits are a float64 in [0, 1) without rounding.
        numbers[row] = (np.frombuffer(stream, dtype=">u8") >> np.uint64(11)) * 2.0**-53
    family_of = np.floor(numbers[:, 0] * len(_FAMILY_ORDER)).astype(np.int64)
    per_block = max(1, _BLOCK // (4 * height * width))
    for family, name in enumerate(_FAMILY_ORDER):
        members = np.flatnonzero(family_of == family)
        for start in range(0, len(members), per_block):
            block = members[start : start + per_block]
            images[block] = _draw(name, numbers[block, 1:], image_shape)
    return torch.from_numpy(images)


def _draw(family: str, numbers: Field, image_shape: tuple[int, int, int]) -> npt.NDArray[np.uint8]:
    channels, height, width = image_shape
    x, y = coordinates(2 * height, 2 * width)
    draws = Draws(numbers)
    cycles, start, spread = draws.uniform(0.5, 1.0), draws.uniform(), draws.uniform(0.1, 0.4)
    spread, depth = spread * draws.sign(), draws.uniform(0.25, 0.6)
    tone, shade = FAMILIES[family](draws, x, y)
    tone, shade = _stretch(tone), _stretch(shade)
    light = 1 - depth + depth * shade
    # A cosine palette: the channels run over the same tone with shifted phases.
    colours = [
        _halve((0.5 + 0.5 * wave(cycles * tone + start + k * spread)) * light) for k in range(3)
    ]
    if channels == 1:
        colours = [_LUMA[0] * colours[0] + _LUMA[1] * colours[1] + _LUMA[2] * colours[2]]
    picture = _stretch(np.stack(colours, axis=1))
    return np.floor(picture * 255 + 0.5).astype(np.uint8)


def _stretch(field: Field) -> Field:
    """Each image's values moved to fill 0..1."""
    axes = tuple(range(1, field.ndim))
    low, high = field.min(axis=axes, keepdims=True), field.max(axis=axes, keepdims=True)
    # A field without any contrast (which no seed is known to give) stays plain black.
    stretched: Field = (field - low) / np.maximum(high - low, 1e-9)
    return stretched


def _halve(field: Field) -> Field:
    """Average 2x2 pixels, adding in a fixed order."""
    rows = field[:, 0::2] + field[:, 1::2]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) / 4
