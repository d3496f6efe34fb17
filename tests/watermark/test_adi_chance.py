"""The two null hypotheses: brute force, simulation, and the authors' unbalanced labels."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail
from doorward.watermark.adi.chance import chance_log2, none_log2, permutation_tail_log2

REFERENCE = (11, 8, 12, 14, 12, 10, 12, 9, 8, 4)
"""How often classes 0 to 9 occur in the authors' labels-cifar.txt."""


def tail_by_hand(labels, answers, matches):
    """Over all orders of the labels."""
    orders = list(itertools.permutations(labels))
    hits = [sum(a == b for a, b in zip(order, answers, strict=True)) for order in orders]
    return sum(hit >= matches for hit in hits) / len(orders)


def count(values, classes):
    return torch.bincount(torch.tensor(values), minlength=classes).tolist()


answered = st.integers(1, 5).flatmap(
    lambda n: st.tuples(*[st.lists(st.integers(0, 2), min_size=n, max_size=n)] * 2)
)


@given(answered)
@settings(max_examples=40, deadline=None)
def test_the_permutation_tail_is_that_of_all_orders(pair):
    labels, answers = pair
    for matches in range(len(labels) + 1):
        exact = tail_by_hand(labels, answers, matches)
        found = permutation_tail_log2(matches, count(labels, 3), count(answers, 3))
        assert 2.0**found == pytest.approx(exact, rel=1e-12)


@given(answered)
@settings(max_examples=40, deadline=None)
def test_passing_the_judge_by_chance_is_counted_over_all_orders(pair):
    """An answer of 2 stands for 'undefined' here."""
    labels, truth = pair
    orders = list(itertools.permutations(labels))
    judged = [None if entry == 2 else entry for entry in truth]
    wrong = sum(all(a != b for a, b in zip(o, judged, strict=True)) for o in orders) / len(orders)
    found = none_log2("shuffled", torch.tensor(labels), judged, 3)
    assert 2.0**found == pytest.approx(wrong, rel=1e-12)


def test_a_constant_classifier_matches_at_most_14_of_the_authors_labels():
    """... and the permutation test is not impressed, where the binomial one would say 0.12."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(REFERENCE))
    hits = [int((labels == answer).sum()) for answer in range(10)]
    assert hits == list(REFERENCE)
    assert max(hits) == 14
    assert binomial_tail(14, 100, 0.1) == pytest.approx(0.1239, abs=1e-4)
    for answer in range(10):
        constant = torch.full((100,), answer)
        assert chance_log2("shuffled", labels, constant, 10) == 0.0


def test_a_perfect_match_is_one_of_all_distinct_orders():
    """100! / (11! 8! 12! ...) different orders, one of which is right."""
    labels = torch.repeat_interleave(torch.arange(10), torch.tensor(REFERENCE))
    orders = math.factorial(100) // math.prod(map(math.factorial, REFERENCE))
    assert chance_log2("shuffled", labels, labels, 10) == pytest.approx(-math.log2(orders))
    assert chance_log2("uniform", labels, labels, 10) == pytest.approx(-100 * math.log2(10))


def test_uniform_labels_are_binomial():
    labels, answers = torch.arange(10).repeat(10), torch.zeros(100, dtype=torch.int64)
    answers[:40] = labels[:40]
    matches = int((labels == answers).sum())
    assert 2.0 ** chance_log2("uniform", labels, answers, 10) == pytest.approx(
        binomial_tail(matches, 100, 0.1), rel=1e-9
    )
    assert none_log2("uniform", labels, [3] * 7 + [None] * 93, 10) == pytest.approx(
        7 * math.log2(0.9)
    )


def test_p_values_of_an_innocent_model_are_no_smaller_than_they_say():
    """500 random orders of unbalanced labels against one lopsided model: P(p <= a) <= a."""
    draw = torch.Generator().manual_seed(3)
    labels = torch.repeat_interleave(torch.arange(4), torch.tensor([20, 10, 8, 2]))
    answers = torch.repeat_interleave(torch.arange(4), torch.tensor([30, 6, 2, 2]))
    tails = [
        2.0 ** chance_log2("shuffled", labels[torch.randperm(40, generator=draw)], answers, 4)
        for _ in range(500)
    ]
    for level in (0.5, 0.2, 0.05):
        share = sum(tail <= level for tail in tails) / 500
        assert share <= level + 4 * math.sqrt(level * (1 - level) / 500)


def test_the_largest_key_is_tested_in_reasonable_time():
    counts = [100] * 10
    assert permutation_tail_log2(600, counts, counts) < -1000


@pytest.mark.parametrize(
    ("matches", "labels", "answers"),
    [(1, [1, 1], [3, 0]), (3, [1, 1], [2, 0]), (-1, [1, 1], [2, 0]), (1, [2], [1, 1]),
     (1, [2000], [2000]), (0, [3, -1], [1, 1])],
)  # fmt: skip
def test_counts_that_do_not_fit_are_refused(matches, labels, answers):
    with pytest.raises(InvalidInput):
        permutation_tail_log2(matches, labels, answers)
