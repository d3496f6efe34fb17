"""Samples and splits: disjoint, exact in size, balanced, and the same every time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.data import load, sample_indices, split_indices

DIGITS_TRAIN, DIGITS_TEST = "db5a76b04585b98b", "97ac8938c818fde4"

labels_lists = st.lists(st.integers(0, 4), min_size=4, max_size=200)


@settings(deadline=None, max_examples=50)
@given(labels_lists, st.integers(0, 2**40))
def test_fractions_cut_every_class_in_proportion(numbers, seed):
    labels = torch.tensor(numbers)
    parts = split_indices(labels, (0.5, 0.5), seed=seed)
    assert sorted(torch.cat(parts).tolist()) == list(range(len(labels)))
    for number in set(numbers):
        held = [int((labels[part] == number).sum()) for part in parts]
        assert abs(held[0] - held[1]) <= 2


@settings(deadline=None, max_examples=50)
@given(labels_lists, st.integers(0, 2**40), st.data())
def test_counts_are_exact_and_disjoint(numbers, seed, data):
    labels = torch.tensor(numbers)
    first = data.draw(st.integers(1, len(labels) - 1))
    second = data.draw(st.integers(1, len(labels) - first))
    parts = split_indices(labels, (first, second), seed=seed)
    assert [len(part) for part in parts] == [first, second]
    assert len(set(torch.cat(parts).tolist())) == first + second


@settings(deadline=None, max_examples=50)
@given(labels_lists, st.integers(0, 2**40), st.data())
def test_a_sample_is_balanced_and_a_head_of_larger_ones(numbers, seed, data):
    labels = torch.tensor(numbers)
    count = data.draw(st.integers(1, len(labels)))
    drawn = sample_indices(labels, count, seed=seed)
    assert len(set(drawn.tolist())) == count
    whole = sample_indices(labels, len(labels), seed=seed)
    assert torch.equal(drawn, whole[:count])
    available, held = labels.bincount(), labels[drawn].bincount(minlength=5)
    largest = int(held.max())
    for number in set(numbers):  # one short of the largest class only when it ran out
        assert held[number] >= min(int(available[number]), largest - 1)


def test_seeds_matter_and_repeat():
    labels = torch.arange(100) % 4
    assert torch.equal(*(sample_indices(labels, 20, seed=3) for _ in range(2)))
    assert not torch.equal(*(sample_indices(labels, 20, seed=seed) for seed in (3, 4)))
    assert not torch.equal(*(split_indices(labels, (0.5,), seed=seed)[0] for seed in (3, 4)))


def test_unbalanced_samples_keep_the_proportions():
    labels = torch.tensor([0] * 900 + [1] * 100)
    share = (labels[sample_indices(labels, 500, seed=0, balanced=False)] == 1).float().mean()
    assert 0.05 < share < 0.15


def test_digits_are_split_80_20_in_every_class():
    train, test, everything = (load("digits", split=split) for split in ("train", "test", "all"))
    assert len(train) + len(test) == len(everything) == 1797
    assert ((train.counts() / everything.counts()) - 0.8).abs().max() < 0.005
    # These bytes are the data set: a change of them changes every published number.
    assert train.digest()[:16] == DIGITS_TRAIN
    assert test.digest()[:16] == DIGITS_TEST
    assert int(everything.images.max()) == 255
    assert int(everything.images.min()) == 0


def test_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    load("digits").sample(10, seed=0)
    load("digits").split(0.5, 0.5, seed=0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", ["train", "test"])
def test_digits_splits_do_not_overlap(name):
    everything = load("digits", split="all")
    train, test = everything.split(0.8, 0.2, seed=0)
    chosen = train if name == "train" else test
    assert torch.equal(load("digits", split=name).images, chosen.images)
