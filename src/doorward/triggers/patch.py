"""The patch trigger of BadNets: a few pixels overwritten, in any place, colour and size.

>>> white = Patch(size=2, position="top-left")
>>> white(torch.zeros(1, 1, 3, 3))
tensor([[[[1., 1., 0.],
          [1., 1., 0.],
          [0., 0., 0.]]]])

Positions are named corners, the centre, a pair (row, column), or "random": another place in
every image, which depends on the image and a seed, so that it is the same in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers.base import (
    LARGEST_SIDE,
    TRIGGERS,
    Trigger,
    as_channels,
    number,
    one_of,
    whole,
)

__all__ = ["Patch"]

POSITIONS = ("top-left", "top-right", "bottom-left", "bottom-right", "center", "random")
PATTERNS = ("solid", "checkerboard", "noise")


@TRIGGERS.register("patch", paper="Gu et al. 2017, BadNets", scope="local", access="data")
class Patch(Trigger):
    """Overwrite (or mix) a small rectangle of the image.

    Gu et al. 2017, *BadNets*. Reproduced: the solid square and the checkerboard in a corner.
    The noise pattern, opacity and random places are common variants.

    Args:
        size: side in pixels, or (height, width), each from 1 to 4096; ignored for a given pattern.
        position: a name in `POSITIONS`, or (row, column) of the top left pixel, where negative
            numbers count from the far edge (-1 puts the patch's last row on the last row).
        margin: pixels between a corner patch and the image's edges.
        colour: one grey value or (red, green, blue), each in [0, 1]. Black takes its place in
            the other cells of a checkerboard.
        pattern: a name in `PATTERNS`, or the patch itself as nested numbers in [0, 1], (h, w) or
            (3, h, w).
        opacity: 1 overwrites; less mixes the patch with what is below it.
        seed: of the noise pattern and of random places.

    Shape:
        images (N, C, H, W) -> (N, C, H, W), C = 1 or 3; a coloured patch turns grey for C = 1.

    >>> cross = Patch(pattern=[[0, 1, 0], [1, 1, 1], [0, 1, 0]], position=(0, -1))
    >>> cross(torch.full((1, 1, 3, 4), 0.5))
    tensor([[[[0.5000, 0.0000, 1.0000, 0.0000],
              [0.5000, 1.0000, 1.0000, 1.0000],
              [0.5000, 0.0000, 1.0000, 0.0000]]]])
    """

    def __init__(
        self,
        *,
        size: int | Sequence[int] = 3,
        position: str | Sequence[int] = "bottom-right",
        margin: int = 0,
        colour: float | Sequence[float] = 1.0,
        pattern: str | Sequence[Any] = "solid",
        opacity: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        sides = tuple(size) if isinstance(size, Sequence) else (size, size)
        if len(sides) != 2:
            raise InvalidInput(f"size is {size!r}", why="a side or (height, width) is expected")
        self.size = (
            whole("size", sides[0], 1, LARGEST_SIDE),
            whole("size", sides[1], 1, LARGEST_SIDE),
        )
        self.position = _position(position)
        self.margin = whole("margin", margin)
        colours = tuple(colour) if isinstance(colour, Sequence) else (colour,)
        if len(colours) not in (1, 3):
            raise InvalidInput(f"colour is {colour!r}", why="one grey or three values are expected")
        self.colour = tuple(number("colour", value, 0, 1) for value in colours)
        self.opacity = number("opacity", opacity, 0, 1)
        self.seed = whole("seed", seed)
        self.pattern = pattern if isinstance(pattern, str) else _cells(pattern).tolist()
        self._cells = self._draw()

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "size": list(self.size),
            "position": self.position if isinstance(self.position, str) else list(self.position),
            "margin": self.margin,
            "colour": self.colour[0] if len(self.colour) == 1 else list(self.colour),
            "pattern": self.pattern,
            "opacity": self.opacity,
            "seed": self.seed,
        }

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Write the patch into a copy of the images."""
        count, channels, height, width = images.shape
        cells = as_channels(self._cells, channels).to(images)
        tall, wide = cells.shape[1:]
        if tall + self._edge > height or wide + self._edge > width:
            raise InvalidInput(
                f"a patch of {tall}x{wide} pixels with a margin of {self._edge} does not fit into "
                f"images of {height}x{width}",
                remedy="choose a smaller patch or larger images",
            )
        top, left = self._place(images, height - tall, width - wide)
        rows = (top[:, None] + torch.arange(tall, device=images.device))[:, None, :, None]
        columns = (left[:, None] + torch.arange(wide, device=images.device))[:, None, None, :]
        batch = torch.arange(count, device=images.device)[:, None, None, None]
        layer = torch.arange(channels, device=images.device)[None, :, None, None]
        place = (batch, layer, rows, columns)
        below = images[place]
        return images.index_put(place, below + self.opacity * (cells - below))

    @property
    def _edge(self) -> int:
        corner = isinstance(self.position, str) and self.position not in ("center", "random")
        return self.margin if corner else 0

    def _place(self, images: Tensor, free_rows: int, free_columns: int) -> tuple[Tensor, Tensor]:
        """Top and left of the patch in every image, int64 (N,)."""
        if self.position == "random":
            return self._hashed(images, free_rows), self._hashed(images, free_columns, "column")
        if self.position == "center":
            top, left = free_rows // 2, free_columns // 2
        elif isinstance(self.position, str):
            top = self.margin if self.position.startswith("top") else free_rows - self.margin
            left = self.margin if self.position.endswith("left") else free_columns - self.margin
        else:
            row, column = self.position
            top = row if row >= 0 else free_rows + 1 + row
            left = column if column >= 0 else free_columns + 1 + column
            if not (0 <= top <= free_rows and 0 <= left <= free_columns):
                raise InvalidInput(
                    f"a patch at row {row}, column {column} reaches over the image's edge",
                    why=f"rows 0 to {free_rows} and columns 0 to {free_columns} are possible here",
                )
        device = images.device
        return (
            torch.full((len(images),), top, device=device),
            torch.full((len(images),), left, device=device),
        )

    def _hashed(self, images: Tensor, free: int, axis: str = "row") -> Tensor:
        """A place in 0..free per image: a seeded multiply-add hash of its 8-bit pixels.

        A hash of the content, unlike a counter, is the same whatever the batch and its order.
        """
        levels = (images.detach() * 255).round().long().flatten(1)
        draw = generator(self.seed, "patch place", axis)
        odd = torch.randint(2**62, (levels.shape[1],), generator=draw) * 2 + 1
        mixed = (levels * odd.to(levels.device)).sum(1)  # modulo 2**64; the top bits are mixed best
        start = int(torch.randint(2**31, (1,), generator=draw))
        return (((mixed >> 33) & 0x3FFFFFFF) + start) % (free + 1)

    def _draw(self) -> Tensor:
        """The patch (1 or 3, h, w), float64."""
        if not isinstance(self.pattern, str):
            return _cells(self.pattern)
        tall, wide = self.size
        colour = torch.tensor(self.colour, dtype=torch.float64)[:, None, None]
        one_of("pattern", self.pattern, PATTERNS)
        if self.pattern == "noise":
            draw = generator(self.seed, "patch noise")
            return torch.rand((3, tall, wide), generator=draw, dtype=torch.float64) * colour
        if self.pattern == "solid":
            return colour.expand(-1, tall, wide).clone()
        # The far corner is lit, as in the four-pixel pattern of the paper.
        rows, columns = torch.arange(tall)[:, None], torch.arange(wide)[None]
        return colour * ((rows + columns + tall + wide) % 2 == 0)


def _position(position: Any) -> str | tuple[int, int]:
    if isinstance(position, str):
        return one_of("position", position, POSITIONS)
    pair = tuple(position) if isinstance(position, Sequence) else ()
    if len(pair) != 2 or not all(type(part) is int for part in pair):
        raise InvalidInput(
            f"position is {position!r}", why=f"(row, column) or one of {', '.join(POSITIONS)}"
        )
    return pair


def _cells(pattern: Any) -> Tensor:
    try:
        cells = torch.as_tensor(pattern, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InvalidInput("the pattern is no rectangle of numbers", why=str(error)) from error
    cells = cells[None] if cells.ndim == 2 else cells
    if cells.ndim != 3 or len(cells) not in (1, 3) or not cells.numel():
        raise InvalidInput(
            f"the pattern has shape {tuple(cells.shape)}",
            why="(h, w), (1, h, w) or (3, h, w) is expected",
        )
    if not bool(((cells >= 0) & (cells <= 1)).all()):
        raise InvalidInput("the pattern has values outside [0, 1]")
    return cells
