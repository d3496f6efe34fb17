"""Exact probabilities behind claims: binomial and hypergeometric tails, and intervals.

>>> binomial_tail(1, 2, 0.5)                            # at least one head in two throws
0.75
>>> round(binomial_tail_log2(1000, 1000, 0.1))          # 10**-1000, far below any float
-3322
>>> binomial_threshold(100, 0.1, 2.0**-64)              # matches that prove a 100-image mark
46

Sums are taken over integers (`fractions`), so a p-value is as exact as its float, at any size.
"""

from __future__ import annotations

import math
from fractions import Fraction

from doorward.errors import InvalidInput

__all__ = [
    "binomial_tail",
    "binomial_tail_log2",
    "binomial_threshold",
    "clopper_pearson",
    "hypergeometric_survival",
    "hypergeometric_survival_log2",
]

_EXACT_BITS = 200_000
"""Above this size of the common denominator the tail is summed in log space instead."""


def binomial_tail(successes: int, trials: int, chance: float | Fraction) -> float:
    """P(X >= successes) for X ~ Binomial(trials, chance).

    Args:
        successes: 0 to trials.
        trials: 0 or more.
        chance: probability of one success, in [0, 1]. A float is taken as the simplest fraction
            that rounds to it (0.1 is 1/10, ``1 / 43`` is 1/43).

    Returns:
        The probability, correctly rounded; 0.0 below 5e-324 (then see `binomial_tail_log2`).
        Very large cases (over 50,000 trials at chance 1/10) are summed in log space, with
        a relative error below 1e-6.

    Raises:
        InvalidInput: an argument is outside its range.

    >>> binomial_tail(2, 3, Fraction(1, 10)) == 28 / 1000
    True
    """
    chance = _checked(successes, trials, chance)
    if _fits(trials, chance):
        return float(_exact_tail(successes, trials, chance))
    return float(2.0 ** _approximate_tail_log2(successes, trials, chance))


def binomial_tail_log2(successes: int, trials: int, chance: float | Fraction) -> float:
    """log2 of `binomial_tail`, which stays finite however small the probability is.

    Returns:
        A value <= 0; minus infinity only where the probability is exactly zero (chance 0).

    >>> binomial_tail_log2(64, 64, 0.5)
    -64.0
    """
    chance = _checked(successes, trials, chance)
    if _fits(trials, chance):
        return _log2(_exact_tail(successes, trials, chance))
    return _approximate_tail_log2(successes, trials, chance)


def binomial_threshold(
    trials: int, chance: float | Fraction, alpha: float | Fraction
) -> int | None:
    """The smallest number of successes whose `binomial_tail` is at most `alpha`.

    Args:
        trials: 1 or more.
        chance: probability of one success under the null hypothesis, in [0, 1].
        alpha: the level, in (0, 1); a float such as ``2.0**-64`` is taken at its exact value, and
            a `Fraction` goes below what floats hold.

    Returns:
        The threshold, or None when even `trials` successes are not surprising enough.

    >>> binomial_threshold(10, 0.1, 1e-9), binomial_threshold(5, 0.5, 0.01)
    (10, None)
    """
    chance = _checked(0, trials, chance)
    if not 0 < alpha < 1:
        raise InvalidInput(f"alpha is {alpha}", why="a level lies between 0 and 1")
    level = Fraction(alpha)
    exact = _fits(trials, chance)
    bound = _log2(level)

    def enough(successes: int) -> bool:
        if exact:
            return _exact_tail(successes, trials, chance) <= level
        return _approximate_tail_log2(successes, trials, chance) <= bound

    if not enough(trials):
        return None
    low, high = 0, trials  # the tail falls with the successes: not enough(low), enough(high)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def clopper_pearson(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact two-sided confidence interval of a proportion (Clopper and Pearson 1934).

    Args:
        successes: 0 to trials.
        trials: 1 or more.
        confidence: coverage that is guaranteed, in (0, 1).

    Returns:
        Lower and upper bound, 0 <= lower <= successes / trials <= upper <= 1.

    Raises:
        InvalidInput: an argument is outside its range.

    >>> low, high = clopper_pearson(0, 10)                  # upper bound 1 - 0.025 ** (1 / 10)
    >>> low, round(high, 4)
    (0.0, 0.3085)
    """
    from scipy.special import betaincinv

    _checked(successes, trials, 0.5)
    if trials < 1:
        raise InvalidInput("no trials", why="an interval needs at least one")
    if not 0 < confidence < 1:
        raise InvalidInput(f"confidence is {confidence}", why="it lies between 0 and 1")
    rest = (1 - confidence) / 2
    low = float(betaincinv(successes, trials - successes + 1, rest)) if successes else 0.0
    high = (
        float(betaincinv(successes + 1, trials - successes, 1 - rest))
        if successes < trials
        else 1.0
    )
    return low, high


def hypergeometric_survival(population: int, drawn: int, bad: int) -> float:
    """P(none of the `bad` items is among `drawn` items picked without replacement).

    The soundness of cut-and-choose: of `population` committed pairs, `drawn` are opened at
    random, and a cheater with `bad` wrong pairs is not caught with this probability,
    ``C(population - bad, drawn) / C(population, drawn)``.

    Args:
        population: items in all, 1 or more.
        drawn: 0 to population.
        bad: 0 to population.

    Raises:
        InvalidInput: an argument is outside its range.

    >>> hypergeometric_survival(4, 2, 1)
    0.5
    """
    return float(_survival(population, drawn, bad))


def hypergeometric_survival_log2(population: int, drawn: int, bad: int) -> float:
    """log2 of `hypergeometric_survival`; minus infinity where a cheater is always caught.

    >>> round(hypergeometric_survival_log2(200, 100, 60), 1)
    -78.8
    """
    return _log2(_survival(population, drawn, bad))


def _survival(population: int, drawn: int, bad: int) -> Fraction:
    if population < 1 or not 0 <= drawn <= population or not 0 <= bad <= population:
        raise InvalidInput(
            f"population {population}, drawn {drawn}, bad {bad} do not fit",
            why="drawn and bad must be between 0 and the population",
        )
    return Fraction(math.comb(population - bad, drawn), math.comb(population, drawn))


def _checked(successes: int, trials: int, chance: float | Fraction) -> Fraction:
    if not 0 <= successes <= trials:
        raise InvalidInput(f"{successes} successes of {trials} trials are not possible")
    if not 0 <= chance <= 1:
        raise InvalidInput(f"chance is {chance}", why="a probability lies between 0 and 1")
    if isinstance(chance, Fraction):
        return chance
    simple = Fraction(chance).limit_denominator(10**6)
    return simple if float(simple) == chance else Fraction(chance)


def _fits(trials: int, chance: Fraction) -> bool:
    return trials * chance.denominator.bit_length() <= _EXACT_BITS


def _exact_tail(successes: int, trials: int, chance: Fraction) -> Fraction:
    whole = chance.denominator
    yes, no = chance.numerator, whole - chance.numerator
    if no == 0 or successes == 0:
        return Fraction(1)
    upper = successes > trials * chance  # the side with fewer and smaller terms
    first, last = (successes, trials) if upper else (0, successes - 1)
    term = math.comb(trials, first) * yes**first * no ** (trials - first)
    total = term
    for count in range(first, last):
        # Each term is an integer and a rational multiple of the one before, so // is exact.
        term = term * ((trials - count) * yes) // ((count + 1) * no)
        total += term
    denominator = whole**trials
    return Fraction(total if upper else denominator - total, denominator)


def _approximate_tail_log2(successes: int, trials: int, chance: Fraction) -> float:
    import numpy as np
    from scipy.special import gammaln, logsumexp

    if chance in (0, 1) or successes == 0:
        return 0.0 if successes == 0 or chance == 1 else -math.inf
    upper = successes > trials * chance
    count = np.arange(successes, trials + 1) if upper else np.arange(successes)
    logs = (
        (gammaln(trials + 1) - gammaln(count + 1) - gammaln(trials - count + 1))
        + count * math.log(chance)
        + (trials - count) * math.log1p(-float(chance))
    )
    tail = float(logsumexp(logs))
    return (tail if upper else math.log1p(-math.exp(min(tail, 0.0)))) / math.log(2)


def _log2(value: Fraction) -> float:
    """log2 of a non-negative fraction of any size, to float precision."""
    if value == 0:
        return -math.inf
    shift = value.denominator.bit_length() - value.numerator.bit_length()
    # Scaled into [1/2, 2], the quotient is an ordinary float.
    scaled = value * Fraction(2) ** shift
    return math.log2(scaled) - shift
