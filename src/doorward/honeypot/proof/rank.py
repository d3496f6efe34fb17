"""How surprising is it that a suspect falls for this key's waves, of all keys there might be?

>>> from doorward.honeypot.lean import Entry, Menu
>>> menu = Menu(classes=3, image_shape=(1, 16, 16), entries=(
...     Entry(across=2, down=0, targets=(0, 1)), Entry(across=4, down=0, targets=(0, 2))))
>>> hits = [[0, 5, 0], [1, 0, 9]]            # of wave and class
>>> at_least(menu, 2, hits, 14), menu.keys(2)
(1, 4)

Null hypothesis: the suspect's answers are independent of the key's choice. That choice is uniform
among all keys of the menu, so the share of keys that would have scored as high is an exact p-value,
whatever the suspect does with waves, and however many of its images hang together: images are never
counted as independent. (A randomisation test with all decoys in it; Fisher 1935.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from doorward.errors import InvalidInput
from doorward.honeypot.lean.menu import Menu

__all__ = ["Look", "at_least", "control_p_value", "rank_log2_p", "sequential_log2_p"]


def at_least(menu: Menu, bits: int, hits: Sequence[Sequence[int]], score: int) -> int:
    """How many of the menu's keys score at least so high; all of them are counted, none is drawn.

    Args:
        menu: what keys draw from.
        bits: waves of a key.
        hits: ``hits[row][target]``, how often the suspect gave the class to that wave, 0 or more.
        score: sum of the hits of a key's pairs.

    Raises:
        InvalidInput: the hits do not fit the menu.
    """
    if len(hits) != len(menu.entries) or any(len(row) != menu.classes for row in hits):
        raise InvalidInput(
            "the hits do not fit the menu",
            why=f"{len(menu.entries)} waves and {menu.classes} classes are expected",
        )
    if any(count < 0 for row in hits for count in row):
        raise InvalidInput("a number of hits is below 0")
    # counts[size]: sum of hits -> number of ways to choose `size` pairs with different waves.
    counts: list[dict[int, int]] = [{0: 1}] + [{} for _ in range(bits)]
    for entry, row in zip(menu.entries, hits, strict=True):
        for size in range(bits, 0, -1):
            for total, ways in counts[size - 1].items():
                for target in entry.targets:
                    reached = total + row[target]
                    counts[size][reached] = counts[size].get(reached, 0) + ways
    return sum(ways for total, ways in counts[bits].items() if total >= score)


def rank_log2_p(menu: Menu, bits: int, hits: Sequence[Sequence[int]], score: int) -> float:
    """log2 of the share of keys that score at least `score` (see `at_least`); at most 0.

    Raises:
        InvalidInput: the hits do not fit, or the menu has no key of so many bits.
    """
    keys = menu.keys(bits)
    if keys < 1:
        raise InvalidInput(f"no key of {bits} bits draws from this menu")
    reached = at_least(menu, bits, hits, score)
    if reached < 1:
        raise InvalidInput(f"no key scores {score}", why="a key's own score is reached by itself")
    return math.log2(reached) - math.log2(keys)


class Look(NamedTuple):
    """One look at the answers so far.

    Attributes:
        images: how many images were asked about.
        log2_p: of the key at this look alone.
    """

    images: int
    log2_p: float


def sequential_log2_p(looks: Sequence[Look], planned: int) -> float:
    """log2 of a p-value that holds although one may stop at any of the planned looks.

    The smallest p-value so far times the number of looks that were planned (Bonferroni): whoever
    stops as soon as that is at most alpha errs with probability alpha at most.

    >>> sequential_log2_p([Look(16, -3.0), Look(32, -9.0)], planned=4)
    -7.0
    """
    if not 1 <= len(looks) <= planned:
        raise InvalidInput(f"{len(looks)} looks of {planned} planned")
    return min(min(look.log2_p for look in looks) + math.log2(planned), 0.0)


def control_p_value(suspect: float, controls: Sequence[float]) -> float | None:
    """Rank of a suspect's success among independent models': ``(1 + #{not below}) / (m + 1)``.

    Exact where suspect and controls are exchangeable unless something was stolen: the unit is the
    model, so m controls never give less than 1 / (m + 1). None without controls.

    >>> control_p_value(0.9, [0.1, 0.2, 0.0])
    0.25
    """
    if not controls:
        return None
    return (1 + sum(control >= suspect for control in controls)) / (len(controls) + 1)
