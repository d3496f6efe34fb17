"""A substitute pool out of a seed: varied pictures that nobody has to download.

>>> pool = procedural_pool(100, (3, 32, 32), seed=0)
>>> pool.images.shape, pool.classes
(torch.Size([100, 3, 32, 32]),
 ('gradients', 'gratings', 'noise', 'cells', 'shapes', 'strokes', 'collages'))

Seven families, in equal parts, are its classes (methods that explore a pool by class need some).
A smaller pool is the head of a larger one of the same seed and shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.randomness import generator

__all__ = ["procedural_pool"]

_PER_FAMILY = 32  # images of a family that are drawn at a time
_LARGEST = 1024

Field = Callable[[int, Tensor, Tensor, Generator], Tensor]


def procedural_pool(n: int, image_shape: tuple[int, int, int], seed: int = 0) -> ImageData:
    """Draw a pool of synthetic images.

    Gradients, sums of waves, fractal noise, Voronoi cells, painted polygons and ellipses, pen
    strokes, and collages of two of these, each with colours (or greys), contrast and pixel noise
    of its own. Our own construction; it shares nothing with the watermark's trigger patterns.

    Args:
        n: how many images.
        image_shape: ``(C, H, W)``: 1 or 3 channels, 8 to 1024 pixels each way.
        seed: of everything in them. The same on every machine up to rounding of pixels.

    Returns:
        uint8 images on the CPU; labels and classes name the families.

    Raises:
        InvalidInput: `n` or the shape is out of range.
    """
    channels, height, width = image_shape
    if n < 1 or channels not in (1, 3) or not all(8 <= s <= _LARGEST for s in (height, width)):
        raise InvalidInput(
            f"{n} procedural images of shape {tuple(image_shape)}",
            why=f"at least 1 image of 1 or 3 channels and 8 to {_LARGEST} pixels each way is drawn",
        )
    ys, xs = torch.meshgrid(_line(height), _line(width), indexing="ij")
    block = _PER_FAMILY * len(_FAMILIES)
    drawn = [_block(number, xs, ys, channels, seed) for number in range(-(-n // block))]
    labels = torch.arange(n) % len(_FAMILIES)
    return ImageData(torch.cat(drawn)[:n], labels, tuple(_FAMILIES), f"procedural-{seed}")


def _block(number: int, xs: Tensor, ys: Tensor, channels: int, seed: int) -> Tensor:
    """The images of one block, uint8 ``(B, C, H, W)``, families taking turns."""
    families = []
    for name, field in _FAMILIES.items():
        draw = generator(seed, "procedural pool", name, number)
        families.append(_coloured(field(_PER_FAMILY, xs, ys, draw), channels, draw))
    return torch.stack(families, 1).flatten(0, 1)


def _coloured(field: Tensor, channels: int, draw: Generator) -> Tensor:
    """A field ``(B, H, W)`` in [0, 1] through a random palette, with some noise, as uint8."""
    count = len(field)
    palette = torch.rand(count, 4, channels, generator=draw)
    palette[:, 3] = (palette[:, 0] + 0.5) % 1  # so that no image is of one colour
    place = field.clamp(0, 1) * 3
    low = place.floor().clamp(max=2)
    share = (place - low).unsqueeze(1)
    rows = torch.arange(count).view(-1, 1, 1)
    first, second = (palette[rows, low.long() + step].permute(0, 3, 1, 2) for step in (0, 1))
    images = torch.lerp(first, second, share)
    grain = torch.rand(count, 1, 1, 1, generator=draw).pow(4) * 0.2
    images = images + grain * torch.randn(images.shape, generator=draw)
    return (images.clamp_(0, 1) * 255).round_().to(torch.uint8)


def _gradients(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """Planes and quadrics, from soft to almost sharp."""
    terms = torch.stack([torch.ones_like(xs), xs, ys, xs * ys, xs.square(), ys.square()])
    weights = torch.randn(count, 6, generator=draw) * torch.tensor([0.5, 1, 1, 0.7, 0.7, 0.7])
    steep = torch.empty(count, 1, 1).uniform_(0, 3, generator=draw).exp()
    return torch.sigmoid(torch.einsum("bt,thw->bhw", weights, terms) * steep)


def _gratings(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """One to four waves: stripes, checks and moires."""
    field = torch.zeros(count, *xs.shape)
    waves = torch.randint(1, 5, (count, 1, 1), generator=draw)
    for number in range(4):
        angle = torch.rand(count, 1, 1, generator=draw) * math.tau
        rate = torch.empty(count, 1, 1).uniform_(0.3, 2.3, generator=draw).exp()
        phase = torch.rand(count, 1, 1, generator=draw) * math.tau
        wave = torch.sin(math.pi * rate * (angle.cos() * xs + angle.sin() * ys) + phase)
        field += wave * (number < waves)
    steep = torch.empty(count, 1, 1).uniform_(0, 3, generator=draw).exp()
    return torch.sigmoid(field * steep)


def _noise(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """Smooth random surfaces of several octaves: clouds, marble, bark."""
    field = torch.zeros(count, 1, *xs.shape)
    persistence = torch.empty(count, 1, 1, 1).uniform_(0.3, 0.9, generator=draw)
    for octave in range(5):
        size = 2 ** (octave + 1) + 1
        grid = torch.randn(count, 1, size, size, generator=draw)
        smooth = F.interpolate(grid, xs.shape, mode="bicubic", align_corners=True)
        field += persistence**octave * smooth
    ridged = torch.rand(count, 1, 1, 1, generator=draw) < 0.3
    field = _stretched(torch.where(ridged, -field.abs(), field).squeeze(1))
    bands = torch.randint(1, 5, (count, 1, 1), generator=draw)
    return torch.where(bands > 3, (field * bands) % 1, field)


def _cells(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """Voronoi cells: flat, shaded by distance, or outlined."""
    kinds = torch.randint(3, (count, 1, 1), generator=draw)
    number = torch.randint(3, 25, (count, 1, 1), generator=draw)
    nearest = torch.full((count, *xs.shape), math.inf)
    second, shade = nearest.clone(), torch.zeros(count, *xs.shape)
    for point in range(24):
        x, y, tone = torch.rand(3, count, 1, 1, generator=draw)
        distance = (xs - 2.4 * x + 1.2).square() + (ys - 2.4 * y + 1.2).square()
        distance = torch.where(point < number, distance, torch.inf)
        closer = distance < nearest
        second = torch.where(closer, nearest, torch.minimum(second, distance))
        shade = torch.where(closer, tone, shade)
        nearest = torch.where(closer, distance, nearest)
    edge = second.sqrt() - nearest.sqrt()
    outlined = torch.where(edge < 0.06, 0.0, 0.3 + 0.7 * shade)
    return torch.where(kinds == 0, shade, torch.where(kinds == 1, _stretched(edge), outlined))


def _shapes(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """One to six polygons, rounded boxes and ellipses over a plain or shaded ground."""
    field = _gradients(count, xs, ys, draw) * torch.rand(count, 1, 1, generator=draw)
    number = torch.randint(1, 7, (count, 1, 1), generator=draw)
    for shape in range(6):
        x, y, angle, tone = torch.rand(4, count, 1, 1, generator=draw)
        size = torch.empty(2, count, 1, 1).uniform_(-1.8, -0.2, generator=draw).exp()
        power = torch.empty(count, 1, 1).uniform_(0, 2.3, generator=draw).exp()
        dx, dy, turn = xs - 1.6 * x + 0.8, ys - 1.6 * y + 0.8, angle * math.tau
        along = (turn.cos() * dx + turn.sin() * dy).abs() / size[0]
        across = (turn.cos() * dy - turn.sin() * dx).abs() / size[1]
        radius = along**power + across**power
        hollow = torch.rand(count, 1, 1, generator=draw) * (tone > 0.6)
        inside = (radius < 1) & (radius > hollow) & (shape < number)
        field = torch.where(inside, tone, field)
    return field


def _strokes(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """One to four strokes of a pen on paper: bent lines, loops, letters of no alphabet."""
    number = torch.randint(1, 5, (count, 1, 1), generator=draw)
    field = torch.zeros(count, *xs.shape)
    for stroke in range(4):
        ends = torch.empty(4, 2, count, 1, 1).uniform_(-0.9, 0.9, generator=draw)
        thick = torch.empty(count, 1, 1).uniform_(-3.2, -1.6, generator=draw).exp()
        distance = torch.full((count, *xs.shape), math.inf)
        for step in torch.linspace(0, 1, 24).tolist():  # a cubic Bezier curve, point by point
            left = 1 - step
            bend = (left**3, 3 * left**2 * step, 3 * left * step**2, step**3)
            x, y = sum(share * end for share, end in zip(bend, ends, strict=True)).unbind()
            distance = torch.minimum(distance, (xs - x).square() + (ys - y).square())
        ink = torch.sigmoid((thick - distance.sqrt()) * 30) * (stroke < number)
        field = torch.maximum(field, ink)
    return field


def _collages(count: int, xs: Tensor, ys: Tensor, draw: Generator) -> Tensor:
    """Two other families side by side, one showing through holes in the other."""
    others = [field for field in _FAMILIES.values() if field is not _collages]
    parts = torch.stack([field(count, xs, ys, draw) for field in others])
    first = torch.randint(len(others), (count,), generator=draw)
    second = (first + torch.randint(1, len(others), (count,), generator=draw)) % len(others)
    rows = torch.arange(count)
    mask = torch.sigmoid((_noise(count, xs, ys, draw) - 0.5) * 20)
    return torch.lerp(parts[first, rows] * 0.5, 0.5 + parts[second, rows] * 0.5, mask)


_FAMILIES: dict[str, Field] = {
    "gradients": _gradients,
    "gratings": _gratings,
    "noise": _noise,
    "cells": _cells,
    "shapes": _shapes,
    "strokes": _strokes,
    "collages": _collages,
}


def _line(length: int) -> Tensor:
    """Centres of pixels along a side of length 2."""
    return (torch.arange(length) + 0.5) * (2 / length) - 1


def _stretched(field: Tensor) -> Tensor:
    """Each image's values spread over [0, 1]."""
    low, high = field.amin((1, 2), keepdim=True), field.amax((1, 2), keepdim=True)
    return (field - low) / (high - low).clamp_min(1e-6)
