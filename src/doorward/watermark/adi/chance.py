"""How many matches chance explains, whatever is known of the labels: two exact null hypotheses.

Labels drawn uniformly from L classes match any fixed model like n throws of an L-sided die:

>>> round(binomial_tail_log2(14, 100, 1 / 10), 2)
-3.01

Labels of which only the *order* is random (balanced ones that were shuffled, a file from elsewhere)
do not: against 50 zeros and 50 ones, a model that always answers 0 is bound to match 50. Here the
chance is that of dealing the labels to the pictures once more:

>>> permutation_tail_log2(50, labels=[50, 50], answers=[100, 0])
0.0

Adi et al. (2018) give neither; their only condition on the threshold is eps < 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail_log2

__all__ = ["MOST_PICTURES", "Law", "chance_log2", "none_log2", "permutation_tail_log2"]

Law = Literal["uniform", "shuffled"]
"""What is known of a key's labels: drawn uniformly and independently, or put in random order."""

MOST_PICTURES = 1000
"""Of one key: the permutation test's whole numbers stay small enough for a second's work."""


def chance_log2(law: Law, labels: Tensor, answers: Tensor, classes: int) -> float:
    """log2 of the p-value of a suspect's answers: the chance of at least so many matches.

    Args:
        law: ``"uniform"`` for Binomial(n, 1/L); ``"shuffled"`` for the permutation test, which
            is conditional on how often each label and each answer occurs.
        labels: int64 ``(n,)``, the key's, each in ``0..classes-1``.
        answers: int64 ``(n,)``, the suspect's, in the same order.
        classes: L.

    Returns:
        A value <= 0.

    >>> labels = torch.tensor([0, 1, 2, 0])
    >>> chance_log2("uniform", labels, labels, classes=4)
    -8.0
    >>> round(2 ** -chance_log2("shuffled", labels, labels, classes=4))     # 4! / 2! orders
    12
    """
    matches = int((labels == answers).sum())
    if law == "uniform":
        return binomial_tail_log2(matches, len(labels), Fraction(1, classes))
    counts = [torch.bincount(values, minlength=classes).tolist() for values in (labels, answers)]
    return permutation_tail_log2(matches, *counts)


def none_log2(law: Law, labels: Tensor, answers: Sequence[int | None], classes: int) -> float:
    """log2 of the chance that labels miss given answers everywhere: the judge's check, passed.

    Args:
        law: as in `chance_log2`.
        labels: int64 ``(n,)``.
        answers: a class in ``0..classes-1`` or None, which no label hits, for each label.
        classes: L.

    >>> none_log2("uniform", torch.tensor([0, 1]), [1, None], classes=2)
    -1.0
    """
    defined = [answer for answer in answers if answer is not None]
    if law == "uniform":
        return len(defined) * math.log2(1 - 1 / classes)
    dealt = torch.bincount(labels, minlength=classes).tolist()
    rooks = _rooks(
        dealt, torch.bincount(torch.tensor(defined, dtype=torch.int64), minlength=classes).tolist()
    )
    n = len(labels)
    ways = sum((-1) ** j * rook * math.factorial(n - j) for j, rook in enumerate(rooks))
    return _log2(ways) - _log2(math.factorial(n)) if ways else -math.inf


def permutation_tail_log2(matches: int, labels: Sequence[int], answers: Sequence[int]) -> float:
    """log2 of P(at least `matches`) when labels are dealt to the pictures in a random order.

    Exact for any fixed answers, however lopsided: a constant predictor gets probability 1 for the
    matches that it is bound to have. The number of orders with a given number of matches follows
    from the rook polynomial of the board of equal pairs, which is the product of those of full
    rectangles ``answers[c] x labels[c]``.

    Args:
        matches: 0 to n.
        labels: how often each class occurs among the labels.
        answers: how often each class occurs among the suspect's answers.

    Returns:
        A value <= 0; minus infinity where so many matches are impossible.

    Raises:
        InvalidInput: the two do not sum to the same n, n is above `MOST_PICTURES`, or `matches`
            is out of range.

    >>> 2 ** permutation_tail_log2(2, labels=[1, 1], answers=[1, 1])
    0.5
    """
    n = sum(labels)
    if sum(answers) != n or len(labels) != len(answers) or min([*labels, *answers], default=0) < 0:
        raise InvalidInput(
            f"{sum(answers)} answers cannot be compared with {n} labels",
            why="counts over the same classes with the same sum are needed",
        )
    if not 0 <= matches <= n or n > MOST_PICTURES:
        raise InvalidInput(f"{matches} matches of {n}", why=f"0 to n of at most {MOST_PICTURES}")
    if matches == 0:
        return 0.0
    rooks = _rooks(labels, answers)
    # By inclusion and exclusion; the inner alternating sums over "exactly k" have a closed form.
    ways = sum(
        (-1) ** (j - matches) * math.comb(j - 1, matches - 1) * rooks[j] * math.factorial(n - j)
        for j in range(matches, len(rooks))
    )
    return _log2(ways) - _log2(math.factorial(n)) if ways else -math.inf


def _rooks(labels: Sequence[int], answers: Sequence[int]) -> list[int]:
    """The rook polynomial's coefficients: ways to choose j pairs that match, for every j."""
    total = [1]
    for dealt, seen in zip(labels, answers, strict=True):
        total = _product(total, _rectangle(seen, dealt))
    return total


def _rectangle(rows: int, columns: int) -> list[int]:
    """Ways to place j rooks that do not attack each other on a full board, for every j."""
    return [
        math.comb(rows, j) * math.comb(columns, j) * math.factorial(j)
        for j in range(min(rows, columns) + 1)
    ]


def _product(first: list[int], second: list[int]) -> list[int]:
    total = [0] * (len(first) + len(second) - 1)
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            total[i + j] += a * b
    return total


def _log2(value: int) -> float:
    """log2 of a whole number of any size."""
    shift = max(value.bit_length() - 64, 0)
    return math.log2(value >> shift) + shift
