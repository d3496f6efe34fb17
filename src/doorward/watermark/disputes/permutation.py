"""Do two marks survive equally well? An exact permutation test over their triggers.

>>> permutation_tail([1, 1, 1], [0, 0, 0])               # one of the 20 ways to choose 3 of 6
0.05...

Each trigger has a score: in how many of several attacks it survived. If the two marks did not
differ, their triggers could be exchanged at will; the p-value is the share of all exchanges whose
first group scores at least as much. With one attack this is Fisher's exact test.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from doorward.errors import InvalidInput

__all__ = ["MOST_SCORE", "permutation_tail"]

MOST_SCORE = 100
"""Largest score of one trigger; the work grows with it."""

_MOST_CELLS = 2**24


def permutation_tail(first: Sequence[int], second: Sequence[int]) -> float:
    """P(a random choice of ``len(first)`` of all scores sums to at least ``sum(first)``).

    The distribution is computed, not sampled: an urn is emptied score by score, and the chance of
    every number of draws with every sum is carried along. All terms are positive, so the result
    is exact up to float rounding (a relative error near 1e-13).

    Args:
        first: scores of one group, whole numbers in ``0..MOST_SCORE``, at least one.
        second: scores of the other, likewise.

    Returns:
        The one-sided p-value, in (0, 1].

    Raises:
        InvalidInput: an empty group, a score out of range, or too many triggers.

    >>> round(permutation_tail([3, 0], [1]), 6)           # {3,0} 3, {3,1} 4, {0,1} 1
    0.666667
    """
    scores = np.asarray([*first, *second], dtype=np.int64)
    if not len(first) or not len(second):
        raise InvalidInput("a group has no scores", why="two groups of triggers are compared")
    if scores.min() < 0 or scores.max() > MOST_SCORE:
        raise InvalidInput(
            f"scores span {scores.min()} to {scores.max()}", why=f"0 to {MOST_SCORE} are possible"
        )
    drawn, total = len(first), len(scores)
    largest = int(np.sort(scores)[-drawn:].sum())
    if (drawn + 1) * (largest + 1) > _MOST_CELLS:
        raise InvalidInput(
            f"{total} triggers with scores up to {scores.max()} are too many to compare exactly",
            remedy="compare a few hundred triggers of each mark",
        )
    # chance[k, s]: of the scores seen so far, k were drawn, and they sum to s.
    chance = np.zeros((drawn + 1, largest + 1))
    chance[0, 0] = 1.0
    taken = np.arange(drawn + 1)[:, None]
    for seen, score in enumerate(scores):
        take = np.clip((drawn - taken) / (total - seen), 0.0, 1.0)
        moved = chance * take
        chance = chance * (1.0 - take)
        chance[1:, score:] += moved[:-1, : largest + 1 - score]
    return float(min(1.0, chance[drawn, int(np.sum(first)) :].sum()))
