"""The statistics of disputes: permutation test, grinding, and random keys against the exact law."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import binomial_tail_log2
from doorward.watermark.claim import make_claim
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.disputes import (
    Calibration,
    calibrate,
    expected_best,
    grinding_curve,
    log2_keys_needed,
    matches_of_random_keys,
    permutation_tail,
    random_keys,
    with_grinding,
)
from doorward.watermark.verification import count_matches

SHAPE = (1, 8, 8)


@pytest.mark.parametrize(
    ("first", "second", "p_value"),
    [
        ([1, 1, 1], [0, 0, 0], 1 / 20),
        ([0, 0, 0], [1, 1, 1], 1.0),
        ([1], [1], 1.0),
        ([3, 0], [1], 2 / 3),
        ([2, 2], [2, 2, 2], 1.0),
        ([5], [0, 1, 2, 3, 4], 1 / 6),
    ],
)
def test_permutation_tail_by_hand(first, second, p_value):
    assert permutation_tail(first, second) == pytest.approx(p_value, rel=1e-12)


@pytest.mark.parametrize(("kept", "n", "others", "m"), [(95, 100, 60, 100), (40, 40, 3, 40)])
def test_with_one_attack_it_is_fishers_exact_test(kept, n, others, m):
    first, second = [1] * kept + [0] * (n - kept), [1] * others + [0] * (m - others)
    expected = hypergeom.sf(kept - 1, n + m, kept + others, n)
    assert permutation_tail(first, second) == pytest.approx(expected, rel=1e-9)


SCORES = st.lists(st.integers(0, 4), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(first=SCORES, second=SCORES)
def test_permutation_tail_is_the_share_of_all_choices(first, second):
    pool, k = first + second, len(first)
    choices = list(itertools.combinations(range(len(pool)), k))
    share = sum(sum(pool[i] for i in c) >= sum(first) for c in choices) / len(choices)
    assert permutation_tail(first, second) == pytest.approx(share, rel=1e-12)


@pytest.mark.parametrize(
    ("first", "second"),
    [([], [1]), ([1], []), ([-1], [0]), ([101], [0]), ([100] * 3000, [0] * 3000)],
    ids=["no first", "no second", "negative", "too large", "too many"],
)
def test_scores_that_cannot_be_compared_are_refused(first, second):
    with pytest.raises(InvalidInput):
        permutation_tail(first, second)


def test_expected_best_by_hand():
    """Best of two keys of two coins: P(2) = 7/16, P(>= 1) = 15/16."""
    assert expected_best(2, n=2, classes=2) == pytest.approx(22 / 16, rel=1e-12)
    assert expected_best(1, n=100, classes=10) == pytest.approx(10, rel=1e-12)
    assert expected_best(10**6, n=100, classes=10) < 28


def test_the_default_rule_outlasts_all_keys_anybody_can_draw():
    """2^64 keys are needed on average; the p-value of the rule's 46 matches says the same."""
    assert log2_keys_needed(100, 10, -64) == -binomial_tail_log2(46, 100, 0.1)
    assert 64 <= log2_keys_needed(100, 10, -64) < 66
    assert expected_best(2**40, n=100, classes=10) < 46
    with pytest.raises(InvalidInput, match="never reach"):
        log2_keys_needed(5, 10, -64)


@pytest.mark.parametrize(("log2_p", "tried", "left"), [(-64, 40, -24), (-10, 10, 0), (-3, 9, 0)])
def test_tries_multiply_a_p_value(log2_p, tried, left):
    assert with_grinding(log2_p, tried) == left


def test_grinding_curve_by_hand():
    curve = grinding_curve([3, 0, 1, 5, 2], n=5, classes=2, keys=(1, 2, 5, 100))
    assert [(point.keys, point.blocks, point.matches) for point in curve] == [
        (1, 5, 11 / 5),
        (2, 2, 4.0),  # max(3, 0) and max(1, 5); the fifth key fills no block
        (5, 1, 5.0),
    ]
    assert curve[0].log2_p == curve[2].log2_p == -5
    assert curve[2].corrected == pytest.approx(-5 + math.log2(5))
    assert curve[0].expected == pytest.approx(2.5)


@pytest.mark.parametrize("matches", [[], [-1], [6]])
def test_impossible_matches_are_refused(matches):
    with pytest.raises(InvalidInput):
        grinding_curve(matches, n=5, classes=2)
    with pytest.raises(InvalidInput):
        calibrate(torch.tensor(matches, dtype=torch.int64), n=5, classes=2)


@pytest.fixture(scope="module")
def innocents():
    """A constant model, and one with strong preferences that looks at the pictures."""
    torch.manual_seed(0)
    weights = torch.randn(64, 10)
    weights[:, 3] += 0.5

    def partial(images):
        return (images.flatten(1) @ weights).argmax(1)

    return {"always 4": lambda images: torch.full((len(images),), 4), "partial": partial}


PARAMETERS = KeyParameters(n=20, classes=10, image_shape=SHAPE)


@pytest.fixture(scope="module")
def matches(innocents):
    return matches_of_random_keys(innocents, PARAMETERS, keys=300, seed=1)


def test_random_keys_follow_the_law_whatever_a_model_prefers(matches):
    for name, found in matches.items():
        law = calibrate(found, n=20, classes=10, suspect=name)
        assert law.suspect == name
        assert law.keys == sum(law.counts) == 300
        assert min(law.ks_p, law.chi_square_p) > 1e-3
        assert law.at_or_below(-20) == 0
        assert law.smallest_log2_p == binomial_tail_log2(int(found.max()), 20, 0.1)
        assert Calibration.from_dict(law.to_dict()) == law


def test_many_keys_at_once_count_like_one_at_a_time(innocents, matches):
    keys = list(random_keys(PARAMETERS, 3, seed=1))
    for place, key in enumerate(keys):
        for name, model in innocents.items():
            assert count_matches(key, model) == int(matches[name][place])


def test_a_law_that_is_broken_a_little_is_found(matches):
    """One more match for every other key: p-values too small, by both tests."""
    bent = matches["partial"].clone()
    bent[::2] += 1
    law = calibrate(bent, n=20, classes=10)
    assert law.ks_p == law.chi_square_p == 1e-4  # the smallest they can say
    assert law.ks > 0.1


def test_models_with_no_difference_between_keys_are_found():
    """Every key with just the expected matches is as far from the law as too many matches."""
    law = calibrate(torch.full((200,), 2), n=20, classes=10)
    assert law.ks_p == law.chi_square_p == 1e-4


def test_the_tests_are_exact_on_a_tiny_law():
    """One key, one coin: both outcomes are equally far from the law, so p is 1."""
    assert calibrate(torch.tensor([1]), n=1, classes=2).ks_p == 1.0


def test_tail_points_by_hand():
    law = calibrate(torch.tensor([0, 0, 1, 2]), n=2, classes=2)
    points = law.tail_points()
    assert [point["share"] for point in points] == [0.25, 0.5, 1.0]
    assert [2 ** point["log2_p"] for point in points] == pytest.approx([0.25, 0.75, 1.0])
    assert all(point["low"] <= point["share"] <= point["high"] for point in points)
    assert law.at_or_below(-2.0) == 1
    assert law.at_or_below(-0.4) == 2


def test_the_law_of_counts_is_the_binomial_one():
    """Four coins, sixteen keys: 1, 4, 6, 4 and 1 of them with 0 to 4 matches is just the law."""
    exact = torch.arange(5).repeat_interleave(torch.tensor([1, 4, 6, 4, 1]))
    law = calibrate(exact, n=4, classes=2)
    assert law.ks == pytest.approx(0, abs=1e-12)
    assert law.chi_square == pytest.approx(0, abs=1e-9)
    assert law.ks_p == law.chi_square_p == 1.0


def test_keys_without_a_seed_are_new_each_time():
    first, second = (next(random_keys(PARAMETERS, 1)) for _ in range(2))
    assert first.commitment() != second.commitment()
    again = [next(random_keys(PARAMETERS, 1, seed=5)).commitment() for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("suspects", "keys", "error"),
    [
        ({}, 1, InvalidInput),
        ({"a": lambda images: torch.zeros(len(images), dtype=torch.int64)}, 0, InvalidInput),
        ({"a": lambda images: torch.full((len(images),), 10)}, 1, ModelUnsuitable),
        (
            {"a": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 7))},
            1,
            ModelUnsuitable,
        ),
    ],
    ids=["nobody", "no keys", "another class", "fewer classes"],
)
def test_bad_suspects_are_refused(suspects, keys, error):
    with pytest.raises(error):
        matches_of_random_keys(suspects, PARAMETERS, keys=keys)


def test_random_keys_can_be_claimed_like_any_other():
    from doorward.bundles import Identity

    key = next(random_keys(PARAMETERS, 1, seed=0))
    assert make_claim(key, Identity.new("x"), alpha=2.0**-40).statement.root == key.commitment()
