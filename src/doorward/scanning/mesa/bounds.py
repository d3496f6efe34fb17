"""What descriptions of patches may hold; they come from files, too.

>>> patch_side(3), within("a level", 1, 1.0), place_of([0, 0.5])
(3, 1.0, (0.0, 0.5))
>>> patch_side(True)
Traceback (most recent call last):
doorward.errors.InvalidInput: a size is True: whole numbers from 1 to 4096 are expected...
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from doorward.errors import InvalidInput

__all__ = ["patch_side", "place_of", "within"]

LARGEST_SIDE = 4096


def patch_side(value: Any) -> int:
    """A side of a patch, checked."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
        raise InvalidInput(
            f"a size is {value!r}", why=f"whole numbers from 1 to {LARGEST_SIDE} are expected"
        )
    return value


def within(what: str, value: Any, largest: float) -> float:
    """A number from 0 to `largest`, checked; `what` names it in the error."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not 0 <= value <= largest:
        raise InvalidInput(f"{what} is {value!r}", why=f"a number from 0 to {largest} is expected")
    return float(value)


def place_of(place: Any) -> tuple[float, float]:
    """Shares of the rows and columns at which a patch still fits, checked."""
    pair = tuple(place) if isinstance(place, Sequence) and not isinstance(place, str) else ()
    if len(pair) != 2:
        raise InvalidInput(f"a place is {place!r}", why="a share of rows and one of columns")
    return (
        within("a place's row", pair[0], 1.0),
        within("a place's column", pair[1], 1.0),
    )
