"""The drawing rules behind the trigger images: eight families, the same bits on every machine.

A family turns random numbers and pixel coordinates into a *tone* (which colour of the palette)
and a *shade* (how bright), both `(n, H, W)`:

>>> x, y = coordinates(32, 32)
>>> draws = Draws(np.random.default_rng(0).random((5, DRAWS)))
>>> tone, shade = FAMILIES["marble"](draws, x, y)
>>> tone.shape, shade.shape
((5, 32, 32), (5, 32, 32))

A commitment covers every byte of every image, so another machine must draw the same bytes years
later. All arithmetic here is therefore float64 with the operations that IEEE 754 rounds exactly
(``+ - * /``, `sqrt`, `floor`, comparisons): no `sin`, `exp` or `log`, whose last bit depends on
the C library and the CPU, and no sums or matrix products, whose order of additions does.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from doorward.registry import Registry

__all__ = ["DRAWS", "FAMILIES", "Draws", "Field", "coordinates", "wave"]

Field = npt.NDArray[np.float64]
Family = Callable[["Draws", Field, Field], tuple[Field, Field]]

DRAWS = 128
"""Random numbers per image; every family needs fewer."""

FAMILIES: Registry[Family] = Registry("pattern family")
"""The families of generator ``abstract-v1``. They are frozen: keys depend on every bit of them."""


class Draws:
    """A cursor over the random numbers of `n` images; each call takes the next column.

    Args:
        numbers: uniform in ``[0, 1)``, shape ``(n, DRAWS)``.
    """

    def __init__(self, numbers: Field) -> None:
        self._numbers, self._next = numbers, 0

    def uniform(self, low: float = 0.0, high: float = 1.0) -> Field:
        """Numbers in ``[low, high)``, shape ``(n, 1, 1)``."""
        column = self._numbers[:, self._next, None, None]
        self._next += 1
        return low + (high - low) * column

    def integer(self, low: int, high: int) -> Field:
        """Whole numbers in ``low..high`` (both included), as floats, shape ``(n, 1, 1)``."""
        return np.floor(self.uniform(low, high + 1))

    def sign(self) -> Field:
        """-1 or 1, shape ``(n, 1, 1)``."""
        return 2 * self.integer(0, 1) - 1

    def direction(self) -> tuple[Field, Field]:
        """Unit vectors (to within 0.1 %) of random direction."""
        turn = self.uniform()
        return wave(turn + 0.25), wave(turn)


def coordinates(height: int, width: int) -> tuple[Field, Field]:
    """Pixel centres `x`, `y`, shape ``(1, H, W)``; the shorter side spans -1..1."""
    short = min(height, width)
    x = (2 * np.arange(width, dtype=np.float64) + 1 - width) / short
    y = (2 * np.arange(height, dtype=np.float64) + 1 - height) / short
    return np.tile(x[None, None, :], (1, height, 1)), np.tile(y[None, :, None], (1, 1, width))


def wave(turns: Field) -> Field:
    """A sine with period 1, to within 0.0011, from exactly rounded operations only.

    >>> [round(float(v), 3) for v in wave(np.array([0.0, 0.25, 0.5, 0.75, 7.25]))]
    [0.0, 1.0, 0.0, -1.0, 1.0]
    """
    v = 1 - 2 * (turns - np.floor(turns))
    parabola = 4 * v * (1 - np.abs(v))
    rounder: Field = parabola + 0.225 * (parabola * np.abs(parabola) - parabola)
    return rounder


def _turn(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Coordinates turned about the centre by a random angle."""
    c, s = draws.direction()
    return c * x - s * y, s * x + c * y


def _squash(t: Field) -> Field:
    squashed: Field = t / (1 + np.abs(t))
    return squashed


@FAMILIES.register("waves")
def waves(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Sums of bent plane waves."""
    x, y = _turn(draws, x, y)
    bend = draws.uniform(0.1, 0.5)
    x, y = (
        x + bend * wave(draws.uniform(0.3, 0.9) * y + draws.uniform()),
        y + bend * wave(draws.uniform(0.3, 0.9) * x + draws.uniform()),
    )
    tone = np.zeros_like(x)
    for _ in range(4):
        c, s = draws.direction()
        frequency = draws.uniform(0.3, 1.1)
        tone = tone + draws.uniform(0.4, 1.0) * wave(frequency * (c * x + s * y) + draws.uniform())
    shade = wave(draws.uniform(0.8, 1.6) * tone + draws.uniform())
    return tone, shade


@FAMILIES.register("network")
def network(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """A small random-weight network over the coordinates (a CPPN; Stanley 2007)."""
    layer = [x, y, np.sqrt(x * x + y * y)]
    for activation, scale in ((wave, 0.9), (_squash, 2.5)):
        units = []
        for _ in range(5):
            total = draws.uniform(-scale, scale)
            for value in layer:
                total = total + draws.uniform(-scale, scale) * value
            units.append(activation(total))
        layer = units
    tone, shade = draws.uniform(-1, 1), draws.uniform(-1, 1)
    for value in layer:
        tone = tone + draws.uniform(-2, 2) * value
        shade = shade + draws.uniform(-2, 2) * value
    return tone, wave(shade)


@FAMILIES.register("kaleidoscope")
def kaleidoscope(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """The plane folded over mirrors through the centre, then waved."""
    radius = np.sqrt(x * x + y * y)
    x, y = _turn(draws, x, y)
    mirrors = draws.integer(2, 4)
    for fold in range(4):
        # Reflect what lies below the line at angle pi / 2^fold; unused folds change nothing.
        angle = np.full_like(mirrors, 0.5 / 2.0**fold)
        nx, ny = -wave(angle), wave(angle + 0.25)
        below = np.minimum(0.0, x * nx + y * ny) * (fold < mirrors)
        x, y = x - 2 * below * nx, y - 2 * below * ny
    tone = wave(draws.uniform(0.5, 1.3) * x + draws.uniform()) + wave(
        draws.uniform(0.5, 1.3) * y + draws.uniform()
    )
    tone = tone + draws.uniform(-1.5, 1.5) * radius
    shade = wave(draws.uniform(0.5, 1.5) * radius + draws.uniform(0.4, 1.0) * tone)
    return tone, shade


@FAMILIES.register("cells")
def cells(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Cells around random points, with light or dark borders (Worley 1996)."""
    x, y = _turn(draws, x, y)
    stretch = draws.uniform(0.6, 1.6)
    nearest = np.full_like(x * stretch, 99.0)
    second, tone = nearest, np.zeros_like(nearest)
    for _ in range(14):
        dx = (x - draws.uniform(-1.3, 1.3)) * stretch
        dy = y - draws.uniform(-1.3, 1.3)
        distance, colour = np.sqrt(dx * dx + dy * dy), draws.uniform()
        tone = np.where(distance < nearest, colour, tone)
        second = np.minimum(second, np.maximum(nearest, distance))
        nearest = np.minimum(nearest, distance)
    border = _squash(draws.uniform(4, 12) * (second - nearest))
    return tone + draws.uniform(0, 0.4) * nearest, draws.sign() * (2 * border - 1)


@FAMILIES.register("marble")
def marble(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Waves that bend waves over five octaves: veins, flames and smoke."""
    x, y = _turn(draws, x, y)
    zoom, strength = draws.uniform(0.25, 0.5), draws.uniform(0.12, 0.24)
    x, y = zoom * x + draws.uniform(), zoom * y + draws.uniform()
    tone, weight = np.zeros_like(x), 1.0
    for _ in range(5):
        x, y = (
            x + strength * wave(y + draws.uniform()),
            y + strength * wave(x + draws.uniform()),
        )
        tone = tone + weight * wave(x + y)
        c, s = draws.direction()
        x, y, weight = 1.7 * (c * x - s * y), 1.7 * (s * x + c * y), weight * 0.6
    return tone, wave(x)


@FAMILIES.register("fractal")
def fractal(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Julia sets, coloured by how near each orbit comes to a point and to a cross."""
    x, y = _turn(draws, x, y)
    c, s = draws.direction()
    scale = draws.uniform(0.96, 1.12)
    # On the edge of the main cardioid, e^it/2 - e^2it/4, the sets are most intricate.
    cx = scale * (c / 2 - (c * c - s * s) / 4)
    cy = scale * (s / 2 - c * s / 2)
    x, y = x * draws.uniform(0.8, 1.25), y * draws.uniform(0.8, 1.25)
    px, py = draws.uniform(-0.6, 0.6), draws.uniform(-0.6, 0.6)
    point, cross = np.full_like(x * cx, 9.0), np.full_like(x * cx, 9.0)
    for _ in range(9):
        x, y = x * x - y * y + cx, 2 * x * y + cy
        x, y = np.clip(x, -8, 8), np.clip(y, -8, 8)
        point = np.minimum(point, (x - px) * (x - px) + (y - py) * (y - py))
        cross = np.minimum(cross, np.minimum(np.abs(x - px), np.abs(y - py)))
    return np.sqrt(np.sqrt(point)), 2 * np.sqrt(_squash(3 * cross)) - 1


@FAMILIES.register("tiles")
def tiles(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Arcs over a grid of square tiles, each turned one of two ways (Truchet 1704)."""
    x, y = _turn(draws, x, y)
    zoom = draws.uniform(1.0, 2.0)
    u, v = zoom * x + 8 + draws.uniform(), zoom * y + 8 + draws.uniform()
    column, row = np.floor(u), np.floor(v)
    u, v = u - column, v - row
    a, b, c = draws.integer(1, 6), draws.integer(1, 6), draws.integer(1, 4)
    # A small keyed parity of the tile's place decides its turn.
    parity = a * column + b * row + c * column * row
    flipped = np.floor(parity / 2) - 2 * np.floor(parity / 4)
    u = np.where(flipped > 0, 1 - u, u)
    near = np.sqrt(u * u + v * v)
    far = np.sqrt((1 - u) * (1 - u) + (1 - v) * (1 - v))
    arc = np.minimum(np.abs(near - 0.5), np.abs(far - 0.5))
    band = wave(draws.uniform(0.8, 2.4) * arc + draws.uniform())
    inside = np.where((near < 0.5) | (far < 0.5), 1.0, 0.0)
    return draws.uniform(0.2, 0.8) * inside + draws.uniform(0, 0.3) * (x + y) + band / 4, band


@FAMILIES.register("ripples")
def ripples(draws: Draws, x: Field, y: Field) -> tuple[Field, Field]:
    """Rings around three centres, interfering."""
    tone = np.zeros_like(x)
    shade = np.ones_like(x)
    for _ in range(3):
        dx, dy = x - draws.uniform(-1.2, 1.2), y - draws.uniform(-1.2, 1.2)
        ring = wave(draws.uniform(0.5, 1.6) * np.sqrt(dx * dx + dy * dy) + draws.uniform())
        tone, shade = tone + draws.uniform(0.3, 1.0) * ring, shade * ring
    return tone, 2 * shade - 1
