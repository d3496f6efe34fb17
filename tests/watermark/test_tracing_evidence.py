"""P-values and confidence of traces, against enumeration and integrals done by hand."""

import itertools
import math

import numpy as np
import pytest

from doorward.watermark.tracing.evidence import judge, log2_best_of


def first(parts):
    return parts[0]


@pytest.mark.parametrize(("payloads", "tested", "classes"), [(2, 3, 2), (3, 2, 3), (4, 2, 2)])
def test_the_bound_holds_over_all_codes_and_is_tight(payloads, tested, classes):
    """Every code there is, against one fixed model: answers are all 0."""
    best = [
        max(word.count(0) for word in code)
        for code in itertools.product(
            list(itertools.product(range(classes), repeat=tested)), repeat=payloads
        )
    ]
    for matches in range(tested + 1):
        exact = sum(found >= matches for found in best) / len(best)
        bound = 2.0 ** log2_best_of(payloads, matches, tested, classes)
        tail = bound / payloads
        assert exact <= bound + 1e-12
        if bound < 1:
            assert exact == pytest.approx(1 - (1 - tail) ** payloads)


def test_the_bound_is_the_tail_times_the_number_of_payloads():
    tail = sum(math.comb(20, k) * 9 ** (20 - k) for k in range(12, 21)) / 10**20
    assert log2_best_of(2**16, 12, 20, 10) == pytest.approx(math.log2(tail) + 16)
    assert log2_best_of(2**16, 2, 20, 10) == 0.0
    assert log2_best_of(2**256, 400, 400, 1000) == pytest.approx(256 - 400 * math.log2(1000))


def test_confidence_by_hand():
    """One trigger, two classes, two payloads: q integrates to 1/2, relative to 1/2 each."""
    found = judge([np.array([1, 0])], [1], 2, first)
    # right: 2 * (1/2) = 1; the other payload: 1; no copy, with as much prior as both: 2.
    assert found.confidence == pytest.approx(1 / 4)
    # No answer at all speaks for nothing: the prior, half of it shared by two payloads.
    assert judge([np.array([0, 0])], [0], 2, first).confidence == pytest.approx(1 / 4)


def test_confidence_is_the_sum_over_all_payloads():
    """Two blocks, against each payload's own integral, a beta function."""
    counts, sizes, classes = [np.array([4, 1, 0]), np.array([2, 3])], [5, 4], 10

    def likelihood(matches):
        rest = 9 - matches
        beta = math.factorial(matches) * math.factorial(rest) / math.factorial(10)
        return classes**9 / (classes - 1) ** rest * beta

    every = sum(likelihood(int(a + b)) for a in counts[0] for b in counts[1])
    found = judge(counts, sizes, classes, tuple)
    assert found.payload == (0, 1)
    assert (found.matches, found.tested, found.runner_up) == (7, 9, 6)
    assert found.confidence == pytest.approx(likelihood(7) / (6 + every))


def test_confidence_rises_with_the_lead_and_reaches_one():
    counts = np.full(2**16, 20)
    values = []
    for matches in (21, 30, 40, 60, 100):
        counts[77] = matches
        found = judge([counts], [100], 10, first)
        assert (found.payload, found.runner_up) == (77, 20)
        values.append(found.confidence)
    assert values == sorted(values)
    assert values[0] < 0.01
    assert values[-1] == pytest.approx(1)


def test_a_tie_is_no_confidence():
    counts = np.full(2**16, 10)
    counts[[5, 9]] = 60
    found = judge([counts], [100], 10, first)
    assert (found.payload, found.runner_up) == (5, 60)
    assert found.confidence == pytest.approx(0.5)
