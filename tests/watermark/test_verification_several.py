"""Corrections for several tests, by hand and by simulation."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying import correct


def verdict(log2_p, log2_alpha=-64.0):
    asked = log2_p is not None
    return Verdict(
        verified=asked and log2_p <= log2_alpha, reason="", commitment_opened=asked,
        root="0" * 64, matches=1 if asked else None, n=100, needed=46, classes=10,
        p_value=0.0 if asked else None, log2_p=log2_p, interval=(0, 1) if asked else None,
        log2_alpha=log2_alpha, owner="Ada", fingerprint="0" * 64, claimed="", verified_at="",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("method", "given_", "expected"),
    [
        # Four tests: factors 4, 2 (bits) for all; or 4, 3, 2, 1 from the smallest p-value on.
        ("bonferroni", [-70.0, -66.0, -65.0, -1.0], [-68.0, -64.0, -63.0, 0.0]),
        ("holm", [-70.0, -66.0, -65.0, -1.0], [-68.0, -66 + math.log2(3), -64.0, -1.0]),
        # The second smallest may not overtake the smallest.
        ("holm", [-65.0, -65.5], [-64.5, -64.5]),
        ("holm", [-65.0, -65.0, -65.0], [-65 + math.log2(3)] * 3),
        ("bonferroni", [-64.0], [-64.0]),
        ("holm", [], []),
        # A thousand times smaller than any float.
        ("holm", [-4000.0, -3999.0], [-3999.0, -3999.0]),
    ],
)
def test_by_hand(method, given_, expected):
    corrected = correct([verdict(p) for p in given_], method=method)
    assert [entry.log2_p for entry in corrected] == pytest.approx(expected, abs=1e-12)
    assert [entry.verified for entry in corrected] == [p <= -64 for p in expected]


def test_a_hit_that_does_not_survive_the_others():
    """2^-64 alone is proof; as the best of two it is not."""
    assert verdict(-64.0).verified
    assert [entry.verified for entry in correct([verdict(-64.0), verdict(-2.0)])] == [False, False]
    assert [entry.verified for entry in correct([verdict(-65.0), verdict(-2.0)])] == [True, False]


def test_tests_that_are_not_shown_count_too():
    (alone,) = correct([verdict(-66.0)], tests=4)
    assert (alone.log2_p, alone.verified, alone.tests) == (-64.0, True, 4)
    (alone,) = correct([verdict(-66.0)], tests=5)
    assert not alone.verified
    with pytest.raises(InvalidInput, match="more than"):
        correct([verdict(-66.0)] * 3, tests=2)
    with pytest.raises(InvalidInput, match="holm or bonferroni"):
        correct([verdict(-66.0)], method="fdr")


def test_a_wrong_key_is_no_test():
    wrong, right = correct([verdict(None), verdict(-64.0)])
    assert (wrong.verified, wrong.log2_p) == (False, None)
    assert (right.verified, right.log2_p, right.tests) == (True, -64.0, 1)


def test_every_claim_keeps_its_own_level():
    corrected = correct([verdict(-50.0, -40.0), verdict(-50.0, -64.0)])
    assert [entry.verified for entry in corrected] == [True, False]


@given(st.lists(st.floats(-200, 0), min_size=1, max_size=12), st.randoms())
def test_holm_is_never_weaker_and_knows_no_order(values, draws):
    holm = correct([verdict(p) for p in values])
    bonferroni = correct([verdict(p) for p in values], method="bonferroni")
    for p, one, other in zip(values, holm, bonferroni, strict=True):
        assert p <= one.log2_p <= other.log2_p <= 0
    places = list(range(len(values)))
    draws.shuffle(places)
    moved = correct([verdict(values[place]) for place in places])
    assert [entry.log2_p for entry in moved] == [holm[place].log2_p for place in places]


def test_any_false_hit_is_as_rare_as_the_level():
    """20 true nulls at level 1/8, 2,000 times: hits without correction 93 %, with it <= 12.5 %."""
    draws, plain, held = random.Random(0), 0, 0
    for _ in range(2000):
        verdicts = [verdict(math.log2(1 - draws.random()), -3.0) for _ in range(20)]
        plain += any(v.verified for v in verdicts)
        held += any(entry.verified for entry in correct(verdicts))
    assert plain > 1800
    assert 180 < held < 250 + 4 * math.sqrt(2000 * 0.125 * 0.875)
