"""The triggers of MESA's experiments: 51 black and white patterns, and random colour ones.

>>> len(pattern_numbers(3)), pattern_numbers(3)[:8]
(51, (0, 1, 2, 3, 5, 7, 10, 11))
>>> pattern(170)
[[0, 1, 0], [1, 0, 1], [0, 1, 0]]

Two patterns count as one if a rotation, a reflection or swapping black and white leads from one to
the other.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers import Patch

__all__ = ["colour_trigger", "pattern", "pattern_numbers", "pattern_trigger"]

LARGEST_SIDE = 4
"""A side of 5 has 2^25 patterns."""


@functools.cache
def pattern_numbers(side: int = 3) -> tuple[int, ...]:
    """One number per class of black and white patterns: the smallest of its class, ascending.

    Args:
        side: in cells, 1 to 4.

    Returns:
        Numbers whose bits are the cells in reading order, the most significant one at the top left,
        1 for white.

    Raises:
        InvalidInput: the side is out of range.

    >>> pattern_numbers(1), pattern_numbers(2)
    ((0,), (0, 1, 3, 6))
    """
    if type(side) is not int or not 1 <= side <= LARGEST_SIDE:
        raise InvalidInput(f"side is {side!r}", why=f"1 to {LARGEST_SIDE} can be enumerated")
    cells = side * side
    weights = 2 ** torch.arange(cells - 1, -1, -1)
    every = torch.arange(2**cells)
    boards = (every[:, None] & weights).ne(0).view(-1, side, side)
    turned = [board for turns in range(4) for board in _both(boards.rot90(turns, (1, 2)))]
    numbers = [(board.flatten(1) * weights).sum(1) for board in turned]
    numbers += [2**cells - 1 - number for number in numbers]
    smallest = torch.stack(numbers).amin(0)
    return tuple(every[smallest == every].tolist())


def pattern(number: int, side: int = 3) -> list[list[int]]:
    """The cells of a pattern, 1 for white (see `pattern_numbers`).

    Raises:
        InvalidInput: there is no such pattern.
    """
    cells = side * side
    if type(number) is not int or not 0 <= number < 2**cells:
        raise InvalidInput(
            f"there is no pattern {number!r}", why=f"{side}x{side} cells have 0 to {2**cells - 1}"
        )
    bits = [number >> (cells - 1 - i) & 1 for i in range(cells)]
    return [bits[row * side : (row + 1) * side] for row in range(side)]


def pattern_trigger(number: int, *, side: int = 3, seed: int = 0) -> Patch:
    """A black and white pattern, opaque, at a random place of each image.

    Qiao et al. (2019) draw one place for a whole batch; `Patch` one for each image, which depends
    on the image and the seed.
    """
    return Patch(pattern=pattern(number, side), position="random", seed=seed)


def colour_trigger(number: int, *, side: int = 3, seed: int = 0) -> Patch:
    """A pattern of uniformly random colours, opaque, at a random place of each image.

    Args:
        number: which one; the paper has ten, whose colours it does not tell.
        side: in pixels.
        seed: of colours and places.
    """
    draw = generator(seed, "colour pattern", number)
    cells: Tensor = torch.rand(3, side, side, generator=draw)
    # Rounded to what an image file can hold.
    return Patch(pattern=((cells * 255).round() / 255).tolist(), position="random", seed=seed)


def _both(boards: Tensor) -> tuple[Tensor, Tensor]:
    return boards, boards.flip(2)
