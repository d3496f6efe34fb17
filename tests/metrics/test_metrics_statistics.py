"""Exact statistics against hand-computed values and the tables of our notes on watermarks."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.metrics import (
    binomial_tail,
    binomial_tail_log2,
    binomial_threshold,
    clopper_pearson,
    hypergeometric_survival,
    hypergeometric_survival_log2,
)
from doorward.metrics import statistics as exact

LEVELS = (1e-3, 1e-6, 1e-9, 2.0**-64, 2.0**-128)
# Matches needed of n triggers with labels uniform over L classes, per level.
THRESHOLDS = {
    (50, 10): (14, 18, 22, 32, 45),
    (100, 10): (21, 28, 33, 46, 65),
    (200, 10): (35, 44, 50, 68, 93),
    (100, 43): (9, 13, 17, 26, 41),
    (100, 100): (6, 9, 12, 20, 33),
    (100, 200): (5, 7, 10, 17, 28),
    (100, 1000): (3, 5, 7, 12, 20),
}
# log2 of the chance that `bad` pairs survive when `opened` of `pairs` are opened.
SURVIVAL = {
    (200, 100): {5: -5.1, 10: -10.3, 20: -21.5, 30: -33.7, 40: -47.1, 60: -78.8},
    (400, 200): {5: -5.0, 10: -10.2, 20: -20.7, 30: -31.7, 40: -43.1, 60: -67.5},
    (200, 150): {5: -10.2, 10: -21.1, 20: -45.0, 30: -72.9, 40: -107, 60: -math.inf},
}


@pytest.mark.parametrize("setting", THRESHOLDS)
def test_threshold_table(setting):
    trials, classes = setting
    found = tuple(binomial_threshold(trials, 1 / classes, level) for level in LEVELS)
    assert found == THRESHOLDS[setting]


@pytest.mark.parametrize("setting", SURVIVAL)
def test_cut_and_choose_table(setting):
    for bad, expected in SURVIVAL[setting].items():
        digits = 0 if expected == -107 else 1
        found = hypergeometric_survival_log2(*setting, bad)
        assert (found if math.isinf(found) else round(found, digits)) == expected


@pytest.mark.parametrize(("matches", "power"), [(0.3, 0.29), (0.4, 0.94), (0.5, 0.9998)])
def test_power_of_a_hundred_triggers(matches, power):
    digits = 4 if power > 0.99 else 2
    assert round(binomial_tail(33, 100, matches), digits) == power


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 0, 0.3), 1),
        ((0, 5, 0.3), 1),
        ((5, 5, 0.5), 1 / 32),
        ((4, 5, 0.5), 6 / 32),
        ((1, 5, 0.5), 31 / 32),
        ((2, 3, 0.1), 0.028),  # 3 * 0.01 * 0.9 + 0.001
        ((1, 3, 0.0), 0),
        ((3, 3, 1.0), 1),
        ((2, 2, 1 / 43), 1 / 43**2),
    ],
)
def test_binomial_tail_by_hand(arguments, expected):
    assert binomial_tail(*arguments) == expected
    if expected:
        assert binomial_tail_log2(*arguments) == pytest.approx(math.log2(expected), rel=1e-14)
    else:
        assert binomial_tail_log2(*arguments) == -math.inf


def test_far_below_the_smallest_float():
    assert binomial_tail(1000, 1000, 0.1) == 0
    assert binomial_tail_log2(1000, 1000, 0.1) == pytest.approx(-1000 * math.log2(10), rel=1e-15)
    # 999 or 1000 of 1000: 10**-1000 * (1000 * 9 + 1)
    expected = math.log2(9001) - 1000 * math.log2(10)
    assert binomial_tail_log2(999, 1000, 0.1) == pytest.approx(expected, rel=1e-15)
    assert binomial_threshold(1000, 0.1, Fraction(1, 10**1000)) == 1000
    assert binomial_threshold(1000, 0.1, Fraction(1, 10**1000 + 1)) is None


def test_probabilities_close_to_one_keep_their_distance():
    # All but one outcome of 2**100: log2(1 - 2**-100) is -2**-100 / ln 2.
    assert binomial_tail_log2(1, 100, 0.5) == pytest.approx(-(2.0**-100) / math.log(2), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 60), data=st.data(), percent=st.integers(1, 99))
def test_tail_is_the_plain_sum(trials, data, percent):
    successes = data.draw(st.integers(0, trials))
    chance = Fraction(percent, 100)
    plain = sum(
        math.comb(trials, i) * chance**i * (1 - chance) ** (trials - i)
        for i in range(successes, trials + 1)
    )
    assert binomial_tail(successes, trials, chance) == float(plain)
    assert binomial_tail(successes, trials, percent / 100) == float(plain)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 300), percent=st.integers(1, 99), power=st.integers(1, 200))
def test_threshold_is_the_first_that_is_enough(trials, percent, power):
    level = Fraction(1, 2**power)
    threshold = binomial_threshold(trials, Fraction(percent, 100), level)
    last = trials if threshold is None else threshold - 1
    assert binomial_tail_log2(last, trials, percent / 100) > -power - 1e-12
    if threshold is not None:
        assert binomial_tail_log2(threshold, trials, percent / 100) <= -power + 1e-12


@pytest.mark.parametrize("successes", [50, 100, 150, 400, 900, 1000])
def test_log_space_agrees_with_exact_integers(successes, monkeypatch):
    expected = binomial_tail_log2(successes, 1000, 0.1), binomial_threshold(1000, 0.1, 1e-9)
    monkeypatch.setattr(exact, "_EXACT_BITS", 0)
    assert binomial_tail_log2(successes, 1000, 0.1) == pytest.approx(expected[0], rel=1e-9)
    assert binomial_threshold(1000, 0.1, 1e-9) == expected[1]


def test_large_cases_are_quick_and_sane():
    assert binomial_tail(500_000, 10**6, 0.5) == pytest.approx(0.5, abs=1e-3)
    assert binomial_tail_log2(10**6, 10**6, 0.5) == pytest.approx(-(10**6), rel=1e-9)


@pytest.mark.parametrize(
    ("arguments", "low", "high"),
    [
        ((0, 10, 0.95), 0, 1 - 0.025**0.1),
        ((10, 10, 0.95), 0.025**0.1, 1),
        ((0, 1, 0.5), 0, 0.75),
        ((5, 10, 0.95), 0.187086, 0.812914),  # the usual textbook interval
    ],
)
def test_clopper_pearson_by_hand(arguments, low, high):
    assert clopper_pearson(*arguments) == pytest.approx((low, high), abs=5e-7)


@settings(max_examples=60, deadline=None)
@given(trials=st.integers(1, 200), data=st.data())
def test_clopper_pearson_inverts_the_tail(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = clopper_pearson(successes, trials, 0.9)
    assert 0 <= low <= successes / trials <= high <= 1
    if successes:
        assert binomial_tail(successes, trials, low) == pytest.approx(0.05, rel=1e-6)
    if successes < trials:
        assert 1 - binomial_tail(successes + 1, trials, high) == pytest.approx(0.05, rel=1e-6)


def test_hypergeometric_by_hand():
    assert hypergeometric_survival(4, 2, 1) == 0.5
    assert hypergeometric_survival(4, 2, 2) == 1 / 6
    assert hypergeometric_survival(4, 2, 3) == 0
    assert hypergeometric_survival(4, 0, 4) == 1
    assert hypergeometric_survival(4, 4, 0) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: binomial_tail(-1, 5, 0.1),
        lambda: binomial_tail(6, 5, 0.1),
        lambda: binomial_tail(1, 5, 1.1),
        lambda: binomial_tail(1, 5, math.nan),
        lambda: binomial_tail_log2(1, 5, -0.1),
        lambda: binomial_threshold(10, 0.1, 0),
        lambda: binomial_threshold(10, 0.1, 1),
        lambda: clopper_pearson(0, 0),
        lambda: clopper_pearson(3, 2),
        lambda: clopper_pearson(1, 2, 1.0),
        lambda: hypergeometric_survival(0, 0, 0),
        lambda: hypergeometric_survival(4, 5, 1),
        lambda: hypergeometric_survival(4, 1, 5),
    ],
)
def test_impossible_arguments_are_refused(call):
    with pytest.raises(InvalidInput):
        call()
