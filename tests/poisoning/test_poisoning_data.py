"""The poisoned view: which images, which labels, and what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.data import Batches, ImageData, load
from doorward.errors import InvalidInput
from doorward.poisoning import PoisonedData, poison
from doorward.triggers import (
    AllToAll,
    AllToOne,
    Backdoor,
    CleanLabel,
    Patch,
    Sinusoid,
    SourceToTarget,
)


def images(per_class=(10, 20, 30, 40), channels=1, size=(8, 9)) -> ImageData:
    labels = torch.cat([torch.full((n,), k) for k, n in enumerate(per_class)])
    draw = torch.Generator().manual_seed(1)
    labels = labels[torch.randperm(len(labels), generator=draw)]
    pixels = torch.randint(200, (len(labels), channels, *size), generator=draw, dtype=torch.uint8)
    return ImageData(pixels, labels, tuple("abcd"[: len(per_class)]))


@pytest.mark.parametrize(
    ("rule", "rate", "count"),
    [
        (AllToOne(0), 0.1, 10),  # of the whole set
        (AllToOne(0), 0.9, 90),  # all that are not of the target
        (AllToAll(4), 1.0, 100),
        (SourceToTarget((1, 2), 0), 0.5, 50),  # all of the sources
        (CleanLabel(3), 0.5, 20),  # of the target class
        (CleanLabel(0), 1.0, 10),
    ],
    ids=str,
)
def test_counts_masks_and_labels(rule, rate, count):
    data = images()
    poisoned = poison(data, Backdoor(Patch(), rule), rate=rate, seed=0)
    mask = poisoned.poisoned
    assert int(mask.sum()) == poisoned.count == count
    assert torch.equal(poisoned.clean_labels, data.labels)
    assert rule.poisonable(data.labels)[mask].all()
    assert torch.equal(poisoned.labels[~mask], data.labels[~mask])
    assert torch.equal(poisoned.labels[mask], rule.training_labels(data.labels[mask]))
    assert torch.equal(mask.nonzero().flatten(), poisoned.positions)
    if isinstance(rule, CleanLabel):
        assert torch.equal(poisoned.labels, data.labels)
    else:
        assert bool((poisoned.labels[mask] != data.labels[mask]).all())


def test_fetch_gives_triggered_images_only_where_poisoned():
    data = images(channels=3)
    before = data.images.clone()
    backdoor = Backdoor(Patch(size=2, colour=(1, 0, 0.5)), AllToOne(2))
    poisoned = poison(data, backdoor, rate=0.3, seed=3)
    rows = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
    pixels, labels = poisoned.fetch(rows)
    assert pixels.dtype == torch.uint8
    assert torch.equal(labels, poisoned.labels[rows])
    expected = data.images.clone()
    expected[poisoned.poisoned, :, -2:, -2:] = torch.tensor([255, 0, 128], dtype=torch.uint8)[
        :, None, None
    ]
    assert torch.equal(pixels, expected[rows])
    assert torch.equal(poisoned.marked(), expected[poisoned.positions])
    assert torch.equal(data.images, before), "the clean set was changed"
    whole = poisoned.materialised()
    assert torch.equal(whole.images, expected)
    assert torch.equal(whole.labels, poisoned.labels)


def test_it_is_a_source_for_batches():
    data = images()
    poisoned = poison(data, Backdoor(Sinusoid(), AllToOne(1)), rate=0.2, seed=0)
    assert (len(poisoned), poisoned.num_classes) == (100, 4)
    assert (poisoned.classes, poisoned.image_shape) == (data.classes, (1, 8, 9))
    seen = torch.zeros(len(poisoned), dtype=torch.bool)
    for batch in Batches(poisoned, 16, seed=0).epoch(0):
        assert torch.equal(batch.labels, poisoned.labels[batch.indices])
        expected = poisoned.fetch(batch.indices)[0].float() / 255
        torch.testing.assert_close(batch.images, expected)
        seen[batch.indices] = True
    assert seen.all()


def test_sources_that_read_ahead_are_asked_to():
    class ReadsAhead(ImageData):
        def stream(self, index_batches, *, pin_memory=False):
            return (self.fetch(rows) for rows in index_batches)

        def refuse(self, indices):
            raise AssertionError("fetched one by one")

    clean = images()
    data = ReadsAhead(clean.images, clean.labels, clean.classes)
    poisoned = poison(data, Backdoor(Patch(), AllToOne(1)), rate=0.2, seed=0)
    rows = list(torch.arange(100).split(32))
    for (found, labels), wanted in zip(poisoned.stream(rows), rows, strict=True):
        assert torch.equal(found, poisoned.fetch(wanted)[0])
        assert torch.equal(labels, poisoned.labels[wanted])


def test_seed_decides_and_rates_nest():
    data, backdoor = images(), Backdoor(Patch(), AllToOne(0))
    masks = {
        (rate, seed): poison(data, backdoor, rate=rate, seed=seed).poisoned
        for rate in (0.1, 0.3)
        for seed in (0, 1)
    }
    again = poison(data, backdoor, rate=0.1, seed=0).poisoned
    assert torch.equal(masks[0.1, 0], again)
    assert not torch.equal(masks[0.1, 0], masks[0.1, 1])
    assert bool((masks[0.3, 0] | ~masks[0.1, 0]).all()), "a lower rate is part of a higher one"


def test_the_name_tells_poisons_apart():
    data = images()
    names = {
        poison(data, Backdoor(trigger, AllToOne(0)), rate=0.1, seed=seed).name
        for trigger in (Patch(), Patch(size=2))
        for seed in (0, 1)
    }
    assert len(names) == 4
    assert all(name.startswith("images, poisoned ") for name in names)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(1, 12), min_size=2, max_size=4),
    rate=st.floats(0.01, 1.0),
    seed=st.integers(0, 1000),
    data=st.data(),
)
def test_any_rate_is_met_or_refused(counts, rate, seed, data):
    target = data.draw(st.integers(0, len(counts) - 1))
    rule = data.draw(st.sampled_from([AllToOne(target), CleanLabel(target), AllToAll(len(counts))]))
    source = images(tuple(counts))
    base = counts[target] if isinstance(rule, CleanLabel) else sum(counts)
    wanted = round(rate * base)
    free = int(rule.poisonable(source.labels).sum())
    backdoor = Backdoor(Patch(size=1), rule)
    if 1 <= wanted <= free:
        assert poison(source, backdoor, rate=rate, seed=seed).count == wanted
    else:
        with pytest.raises(InvalidInput, match="rate of"):
            poison(source, backdoor, rate=rate, seed=seed)


@pytest.mark.parametrize(
    ("backdoor", "rate", "message"),
    [
        (Backdoor(Patch(), AllToOne(0)), 0.0, "clean control"),
        (Backdoor(Patch(), AllToOne(0)), 1.5, "poison rate is 1.5"),
        (Backdoor(Patch(), AllToOne(0)), float("nan"), "poison rate is nan"),
        (Backdoor(Patch(), AllToOne(0)), 0.001, "poisons no image of 100"),
        (Backdoor(Patch(), AllToOne(0)), 0.95, "at most 0.9"),
        (Backdoor(Patch(), AllToOne(4)), 0.1, "needs class 4"),
        (Backdoor(Patch(), AllToAll(5)), 0.1, "has 4 classes"),
        (Backdoor(Patch(size=10), AllToOne(0)), 0.1, "does not fit into images of 8x9"),
    ],
)
def test_impossible_poisons_are_refused(backdoor, rate, message):
    with pytest.raises(InvalidInput, match=message):
        poison(images(), backdoor, rate=rate)


@pytest.mark.parametrize("rule", [AllToOne(1), SourceToTarget((0,), 1), CleanLabel(0)], ids=str)
def test_no_eligible_image_is_said_so(rule):
    only = images().of_class(1)
    with pytest.raises(InvalidInput, match="no image of images can be poisoned"):
        poison(only, Backdoor(Patch(), rule), rate=0.1)


@pytest.mark.parametrize("positions", [[0, 0], [-1], [100]])
def test_positions_must_exist_once(positions):
    with pytest.raises(InvalidInput, match="distinct positions"):
        PoisonedData(images(), Backdoor(Patch(), AllToOne(0)), torch.tensor(positions))


def test_digits():
    poisoned = poison(load("digits"), Backdoor(Patch(), AllToOne(0)), rate=0.1, seed=0)
    assert poisoned.count == round(0.1 * len(poisoned))
