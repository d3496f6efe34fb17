"""The exact tail of labels drawn by lot, against every way of drawing them."""

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail_log2, lots_tail_log2

tables = st.integers(2, 4).flatmap(
    lambda classes: st.lists(
        st.lists(st.integers(-5, 5), min_size=classes, max_size=classes), min_size=1, max_size=5
    )
)


@given(tables, st.data())
def test_it_is_the_share_of_all_draws_that_score_as_high(table, data):
    votes = torch.tensor(table)
    n, classes = votes.shape
    labels = data.draw(st.lists(st.integers(0, classes - 1), min_size=n, max_size=n))
    score = sum(row[label] for row, label in zip(table, labels, strict=True))
    draws = list(itertools.product(range(classes), repeat=n))
    high = sum(
        sum(row[label] for row, label in zip(table, draw, strict=True)) >= score for draw in draws
    )
    found = lots_tail_log2(votes, torch.tensor(labels))
    assert found == pytest.approx(math.log2(high / len(draws)), abs=1e-9)


def test_one_vote_per_row_is_the_binomial_tail():
    votes = torch.eye(10, dtype=torch.int64).repeat(5, 1)
    labels = torch.arange(10).repeat(5)
    labels[20:] = (labels[20:] + 1) % 10
    assert lots_tail_log2(votes, labels) == pytest.approx(binomial_tail_log2(20, 50, 0.1))


def test_a_thousand_classes_are_no_obstacle():
    votes = torch.zeros(20, 1000, dtype=torch.int64)
    votes[:, 0] = 1000
    found = lots_tail_log2(votes, torch.zeros(20, dtype=torch.int64))
    assert found == pytest.approx(-20 * math.log2(1000))


def test_it_reaches_far_below_any_float():
    votes = 16 * torch.eye(10, dtype=torch.int64).repeat(40, 1)
    labels = torch.arange(10).repeat(40)
    assert lots_tail_log2(votes, labels) == pytest.approx(-400 * math.log2(10))


def test_a_baseline_for_each_class_changes_nothing_that_must_not_change():
    draws = torch.Generator().manual_seed(0)
    votes = torch.randint(0, 9, (6, 4), generator=draws)
    labels = torch.randint(0, 4, (6,), generator=draws)
    by_row = votes + torch.arange(6)[:, None]  # adds the same to every way of drawing
    assert lots_tail_log2(by_row, labels) == pytest.approx(lots_tail_log2(votes, labels))


@pytest.mark.parametrize(
    ("votes", "labels"),
    [
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(3, 1, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)),
        (torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64)),
        (torch.zeros(3, 2, dtype=torch.int64), torch.zeros(3)),
        (torch.zeros(3, 2, dtype=torch.int64), torch.tensor([0, 1, 2])),
        (torch.zeros(3, 2, dtype=torch.int64), torch.tensor([0, 1, -1])),
        (torch.tensor([[0, 10**9]]), torch.tensor([1])),
    ],
)
def test_tables_that_make_no_sense_are_refused(votes, labels):
    with pytest.raises(InvalidInput):
        lots_tail_log2(votes, labels)
