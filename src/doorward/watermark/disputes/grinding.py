"""What an accuser gains who draws many keys and shows the best: a factor, and it is known.

>>> expected_best(1000, n=100, classes=10) < 21          # matches; the default rule asks for 46
True
>>> round(log2_keys_needed(100, 10, -64.0), 1)           # keys until one satisfies that rule
64.9
>>> with_grinding(-64.9, log2_keys=40.0)                 # a p-value after 2^40 tried keys
-24.9...

A key is 32 random bytes, and nothing of it can be chosen: change one secret, and the Merkle root,
and with it every label, is drawn anew. So each try is one independent draw of all matches, and k
tries multiply a p-value by k at most (Boole's inequality). A rule of 2^-64 leaves 2^-24 after 2^40
tries.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail_log2
from doorward.records import STRICT, Record
from doorward.watermark.lots import matches_needed

__all__ = [
    "GrindingPoint",
    "expected_best",
    "grinding_curve",
    "log2_keys_needed",
    "with_grinding",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GrindingPoint(Record):
    """The best of k keys, as observed and as expected.

    Attributes:
        keys: k, how many keys were tried for one claim.
        blocks: how many times that was done, with keys of their own each.
        matches: matches of the best key, averaged over the blocks.
        expected: the same, expected of random labels.
        log2_p: log2 of the smallest p-value seen in any block.
        corrected: log2 of that p-value times all keys tried: what it is worth, at most 0.
    """

    keys: Annotated[int, Field(ge=1)]
    blocks: Annotated[int, Field(ge=1)]
    matches: float
    expected: float
    log2_p: float
    corrected: float


def expected_best(keys: int, n: int, classes: int) -> float:
    """Matches that the best of so many random keys is expected to have, on any fixed model.

    Args:
        keys: 1 or more.
        n: triggers of each.
        classes: number of classes L.

    >>> expected_best(1, n=100, classes=10)               # the mean of Binomial(100, 1/10)
    10.0...
    >>> round(expected_best(2, n=1, classes=2), 6)        # one throw of two coins: 3/4
    0.75
    """
    if keys < 1 or n < 1 or classes < 2:
        raise InvalidInput(
            f"{keys} keys of {n} triggers and {classes} classes", why="1, 1 and 2 are the least"
        )
    return sum(_some_key_has(matches, keys, n, classes) for matches in range(1, n + 1))


def log2_keys_needed(n: int, classes: int, log2_alpha: float) -> float:
    """log2 of the number of keys that must be drawn, on average, until one satisfies a rule.

    Args:
        n: triggers of each key.
        classes: number of classes L.
        log2_alpha: the rule, log2 of the p-value that counts as proof.

    Raises:
        InvalidInput: no number of matches satisfies the rule.
    """
    needed = matches_needed(n, classes, log2_alpha)
    if needed is None:
        raise InvalidInput(
            f"{n} triggers of {classes} classes never reach 2^{log2_alpha:g}",
            remedy="take more triggers, or a weaker rule",
        )
    return -binomial_tail_log2(needed, n, 1 / classes)


def with_grinding(log2_p: float, log2_keys: float) -> float:
    """log2 of a p-value that is the best of ``2**log2_keys`` tries (Boole's inequality)."""
    if log2_keys < 0:
        raise InvalidInput(f"2^{log2_keys:g} keys are fewer than one")
    return min(0.0, log2_p + log2_keys)


def grinding_curve(
    matches: Tensor | Sequence[int],
    *,
    n: int,
    classes: int,
    keys: Sequence[int] = (1, 10, 100, 1000),
) -> tuple[GrindingPoint, ...]:
    """How good the best of k keys is, for growing k.

    Args:
        matches: of one model and many random keys, int ``(K,)``, each in ``0..n``.
        n: triggers of each key.
        classes: number of classes L.
        keys: the k to show; those above K are left out.

    Returns:
        One point per k, over ``K // k`` disjoint blocks of keys.

    >>> point, = grinding_curve([0, 1, 1, 0], n=1, classes=2, keys=(2,))
    >>> point.blocks, point.matches, point.expected
    (2, 1.0, 0.75)
    """
    counts = [int(count) for count in matches]
    if not counts or min(counts) < 0 or max(counts) > n:
        raise InvalidInput(f"matches of {n} triggers are needed", why="each counts 0 to n")
    points = []
    for size in sorted({size for size in keys if 1 <= size <= len(counts)}):
        blocks = len(counts) // size
        best = [max(counts[i * size : (i + 1) * size]) for i in range(blocks)]
        log2_p = binomial_tail_log2(max(best), n, 1 / classes)
        points.append(
            GrindingPoint(
                keys=size,
                blocks=blocks,
                matches=sum(best) / blocks,
                expected=expected_best(size, n, classes),
                log2_p=log2_p,
                corrected=with_grinding(log2_p, math.log2(size * blocks)),
            )
        )
    return tuple(points)


def _some_key_has(matches: int, keys: int, n: int, classes: int) -> float:
    """P(at least one of `keys` keys has at least `matches` matches), stable for tiny tails."""
    tail = 2.0 ** binomial_tail_log2(matches, n, 1 / classes)
    return 1.0 if tail >= 1 else -math.expm1(keys * math.log1p(-tail))
