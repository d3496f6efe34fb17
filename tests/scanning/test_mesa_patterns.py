"""The triggers of MESA's experiments, and how they are planted."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doorward.data import Batch, load
from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.scanning.mesa.reference import (
    INJECTION,
    colour_trigger,
    inject,
    pattern,
    pattern_numbers,
    pattern_trigger,
)
from doorward.scanning.mesa.reference.planting import _Poisoning
from doorward.training import Recipe
from doorward.triggers import AllToOne, Backdoor, CleanLabel, Patch

PAPER = (
    "0 1 2 3 5 7 10 11 12 13 14 15 16 17 18 19 21 23 26 27 28 29 30 40 41 42 43 45 56 57 58 59 61 "
    "68 69 70 78 84 85 86 94 97 98 99 101 106 108 113 114 170 186"
)


def test_the_enumeration_is_the_papers() -> None:
    assert pattern_numbers(3) == tuple(int(number) for number in PAPER.split())


def test_the_classes_cover_all_patterns_once() -> None:
    """The orbits of the representatives are disjoint and make up all 512 patterns."""
    orbits = []
    for number in pattern_numbers(3):
        board = torch.tensor(pattern(number))
        boards = [b.rot90(k) for k in range(4) for b in (board, board.T)]
        boards += [1 - b for b in boards]
        orbits.append({int("".join(map(str, b.flatten().tolist())), 2) for b in boards})
    assert sum(map(len, orbits)) == 512
    assert set.union(*orbits) == set(range(512))


def test_cells_are_in_reading_order() -> None:
    assert pattern(256) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert pattern(1) == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    assert pattern(16) == [[0, 0, 0], [0, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(("number", "side"), [(-1, 3), (512, 3), (True, 3), (1.0, 3), (16, 2)])
def test_there_are_no_other_patterns(number, side) -> None:
    with pytest.raises(InvalidInput, match="there is no pattern"):
        pattern(number, side)


@pytest.mark.parametrize("side", [0, 5, 2.0, True])
def test_sides_that_cannot_be_enumerated(side) -> None:
    with pytest.raises(InvalidInput, match="side is"):
        pattern_numbers(side)


def test_triggers_overwrite_nine_pixels_somewhere() -> None:
    images = torch.full((40, 3, 32, 32), 0.5) + 0.01 * torch.rand(
        40, 3, 32, 32, generator=generator(0)
    )
    for trigger in (pattern_trigger(170), colour_trigger(4)):
        changed = (trigger(images) != images).any(1)
        assert changed.sum((1, 2)).unique().tolist() == [9]
        places = changed.flatten(1).int().argmax(1)
        assert len(places.unique()) > 20


def test_colour_triggers_differ_and_come_back() -> None:
    first, second = colour_trigger(0), colour_trigger(1)
    assert first.pattern != second.pattern
    assert colour_trigger(0).config() == first.config()
    assert colour_trigger(0, seed=1).pattern != first.pattern
    levels = torch.tensor(first.pattern) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-4)


def test_some_images_of_a_batch_are_poisoned() -> None:
    labels = torch.arange(400) % 10
    batch = Batch(torch.zeros(400, 1, 8, 8), labels, torch.arange(400), 3, 0, 400)
    poisoning = _Poisoning(Backdoor(Patch(size=2), AllToOne(4)), 0.25, seed=1)
    images, given = poisoning.poisoned(batch)
    marked = images.sum((1, 2, 3)) == 4
    assert 60 < int(marked.sum()) < 140
    assert not bool(marked[labels == 4].any())
    assert given.tolist() == torch.where(marked, 4, labels).tolist()
    assert not batch.images.any()
    assert torch.equal(poisoning.poisoned(batch)[0], images)


def test_the_papers_injection() -> None:
    assert (INJECTION.epochs, INJECTION.lr, INJECTION.momentum) == (10, 1e-3, 0.9)
    assert (INJECTION.nesterov, INJECTION.weight_decay, INJECTION.augment.active) == (
        False,
        0,
        False,
    )
    digits = load("digits").sample(32, seed=0).resized(16)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    backdoor, recipe = Backdoor(Patch(), AllToOne(0)), Recipe(max_steps=2)
    assert inject(model, digits, backdoor, recipe, probability=0.5).steps == 2
    for wrong in (0, 1.5, float("nan")):
        with pytest.raises(InvalidInput, match="probability"):
            inject(model, digits, backdoor, recipe, probability=wrong)
    with pytest.raises(InvalidInput, match="needs class 11"):
        inject(model, digits, Backdoor(Patch(), CleanLabel(11)), recipe)
