"""How strongly answers speak for a payload: an exact bound on chance, and the odds against others.

>>> import numpy as np
>>> counts = [np.array([9, 1, 0, 2])]           # a code of four payloads, ten triggers, ten classes
>>> found = judge(counts, [10], 10, lambda parts: parts[0])
>>> found.payload, found.matches, found.runner_up, round(found.log2_p, 2), found.confidence > 0.999
(0, 9, 2, -24.71, True)

*P-value.* If the suspect was not taught any label of the key, each payload's matches on m triggers
are Binomial(m, 1/L), whatever the suspect answers. That *some* of the M payloads gets k matches or
more has at most M times the probability of one (Boole's inequality), so ``min(1, M tail(k))`` is a
valid p-value of the best of M, however it was found. For a code of one block, whose payloads are
independent, the exact value is ``1 - (1 - tail(k))^M``, which is the same but for its square.

*Confidence.* The posterior probability that the named payload is the right one, in the model
of a copy that answers an unknown share q of its triggers right and otherwise any wrong label alike.
Prior: even odds that the suspect is no copy at all, else every payload alike; q uniform in [0, 1].
It compares payloads with each other; whether the suspect was taught any is for the p-value to say.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from doorward.metrics import binomial_tail_log2

__all__ = ["Decoded", "judge", "log2_best_of"]

_NODES = 256  # of the quadrature over q; Gauss-Legendre, exact for polynomials of degree 511


@dataclass(frozen=True)
class Decoded:
    """The best payload, and how good it is.

    Attributes:
        payload: the one with the most matches (of several, the one with the lowest blocks).
        matches: of how many triggers it has the label that the suspect gave.
        tested: triggers that were gone by.
        runner_up: matches of the next best payload.
        log2_p: log2 of the bound on the probability that any payload gets so many by chance.
        confidence: posterior probability of this payload, in [0, 1].
    """

    payload: int
    matches: int
    tested: int
    runner_up: int
    log2_p: float
    confidence: float


def judge(
    counts: Sequence[npt.NDArray[np.int64]],
    sizes: Sequence[int],
    classes: int,
    join: Callable[[list[int]], int],
) -> Decoded:
    """Find the best payload and weigh the evidence for it.

    Args:
        counts: for each block, the matches of every value of the block.
        sizes: for each block, how many triggers were gone by.
        classes: number of classes L.
        join: makes a payload of one value for each block.
    """
    best = [int(block.argmax()) for block in counts]
    matches = sum(int(block[value]) for block, value in zip(counts, best, strict=True))
    # Next best overall: the exchange, in one block, that loses fewest matches.
    loss = min(
        int(block[value]) - int(np.delete(block, value).max())
        for block, value in zip(counts, best, strict=True)
    )
    payloads = math.prod(len(block) for block in counts)
    return Decoded(
        payload=join(best),
        matches=matches,
        tested=sum(sizes),
        runner_up=matches - loss,
        log2_p=log2_best_of(payloads, matches, sum(sizes), classes),
        confidence=_posterior(counts, sizes, classes, payloads),
    )


def log2_best_of(payloads: int, matches: int, tested: int, classes: int) -> float:
    """log2 of the bound on P(any of so many payloads gets `matches` or more by chance).

    Args:
        payloads: how many were considered, M.
        matches: of the best.
        tested: triggers, m.
        classes: number of classes L.

    Returns:
        ``min(0, log2 M + log2 P(Binomial(m, 1/L) >= matches))``.

    >>> log2_best_of(2**16, 40, 40, 2)
    -24.0
    """
    tail = binomial_tail_log2(matches, tested, 1 / classes)
    return min(0.0, math.log2(payloads) + tail)


def _posterior(
    counts: Sequence[npt.NDArray[np.int64]], sizes: Sequence[int], classes: int, payloads: int
) -> float:
    """The integral over q of the best payload's likelihood, over that of everything.

    Likelihoods are relative to those of a suspect that is no copy: a match has q L, any other
    answer (1 - q) L / (L - 1). Given q, blocks are independent, so that the sum over all payloads
    is a product of sums over the blocks' values, and those run over match counts, not over values.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    q = (nodes + 1) / 2
    match = np.log(q * classes)
    other = np.log((1 - q) * classes / (classes - 1))
    best, every = np.log(weights / 2), np.log(weights / 2)
    for block, size in zip(counts, sizes, strict=True):
        number = np.bincount(block, minlength=size + 1)
        k = np.flatnonzero(number)
        logs = k[:, None] * match + (size - k[:, None]) * other
        best = best + logs[-1]  # k rises, so the last row is that of the best value
        every = every + np.logaddexp.reduce(np.log(number[k])[:, None] + logs, axis=0)
    no_copy = math.log(payloads)
    total = np.logaddexp(no_copy, np.logaddexp.reduce(every))
    return float(np.exp(np.logaddexp.reduce(best) - total))
