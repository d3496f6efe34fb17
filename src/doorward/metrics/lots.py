"""Do labels that were drawn by lot fit a table of votes better than chance? The exact answer.

Two triggers, three classes; the votes favour the labels (0, 2), and of the nine ways in which both
labels could have been drawn only one scores as high:

>>> votes = torch.tensor([[4, 1, 0], [0, 2, 3]])
>>> round(2 ** lots_tail_log2(votes, torch.tensor([0, 2])), 4) == round(1 / 9, 4)
True
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["lots_tail_log2"]

_MOST = 10**7
"""Sums to keep apart; beyond it the convolution would take too long."""


def lots_tail_log2(votes: Tensor, labels: Tensor) -> float:
    """log2 of P(T >= observed), T the sum of each row's entry at an independent uniform label.

    The distribution of T is worked out exactly, by convolving the rows over integers: no normal
    approximation, no random draws. Rows may hold anything that does not depend on the labels, such
    as counts of answers minus a baseline.

    Args:
        votes: integers (n, L), n >= 1, L >= 2; negative ones too.
        labels: int64 (n,) in 0..L-1: those of the statistic that was observed.

    Returns:
        The log2 of the probability, at most 0 and at least ``-n log2(L)``.

    Raises:
        InvalidInput: shapes, types or values do not fit, or the votes are too large to enumerate.
    """
    _check(votes, labels)
    table = votes.cpu().to(torch.int64)
    table = table - table.min(1, keepdim=True).values  # shifts T and what it is compared with
    n, classes = table.shape
    rows = [Counter(row) for row in table.tolist()]  # of many classes most have the same votes
    if int(table.max(1).values.sum()) * max(map(len, rows)) > _MOST:
        raise InvalidInput(
            f"votes up to {int(votes.abs().max())} in {n} rows are too many to enumerate",
            remedy="ask fewer times per trigger",
        )
    observed = int(table.gather(1, labels.cpu()[:, None]).sum())
    # Object arrays hold Python's integers, which do not overflow: there are L**n ways in all.
    ways = np.array([1], dtype=object)
    for row in rows:
        wider = np.zeros(len(ways) + max(row), dtype=object)
        for vote, times in row.items():
            wider[vote : vote + len(ways)] += times * ways
        ways = wider
    return _log2(int(ways[observed:].sum())) - n * math.log2(classes)


def _log2(value: int) -> float:
    shift = max(value.bit_length() - 64, 0)  # math.log2 of a huge integer would overflow
    return math.log2(value >> shift) + shift


def _check(votes: Tensor, labels: Tensor) -> None:
    if votes.ndim != 2 or votes.shape[0] < 1 or votes.shape[1] < 2 or votes.is_floating_point():
        raise InvalidInput(
            f"votes are {votes.dtype} of shape {tuple(votes.shape)}",
            why="whole numbers (n, L) with at least one row and two classes are needed",
        )
    if labels.shape != votes.shape[:1] or labels.dtype != torch.int64:
        raise InvalidInput(
            f"labels are {labels.dtype} of shape {tuple(labels.shape)}",
            why=f"{votes.shape[0]} rows of votes need as many int64 labels",
        )
    if int(labels.min()) < 0 or int(labels.max()) >= votes.shape[1]:
        raise InvalidInput(f"a label is outside 0..{votes.shape[1] - 1}")
