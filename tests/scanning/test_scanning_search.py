"""Searching triggers by size: the weight's schedule, what is kept, and when a class is done."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from doorward.data import Batch, ImageData, load
from doorward.scanning import scan, scanner
from doorward.scanning.inversion import Stamps, _Smallest
from doorward.scanning.pixel import Changes, _Fewest
from doorward.scanning.searching import SizeWeight, smallness

CPU = torch.device("cpu")


def weight(classes: int = 1, **changes: Any) -> SizeWeight:
    options: dict[str, Any] = {"patience": 2, "up": 2.0, "down": 2**1.5, **changes}
    return SizeWeight(classes, CPU, **options)


def batch_of(images: Tensor, labels: list[int], epoch: int = 0) -> Batch:
    n = len(images)
    return Batch(images, torch.tensor(labels), torch.arange(n), epoch, epoch, n)


def test_neural_cleanse_schedule_by_hand() -> None:
    """Two in a row: 0 -> 1e-3 -> 2e-3 up, by 2^1.5 down; a change of luck starts the count anew."""
    costs = weight()
    seen = []
    for good in (1, 1, 0, 1, 1, 0, 0, 1, 0, 1, 1):
        costs.update(torch.tensor([bool(good)]), torch.ones(1))
        seen.append(float(costs.cost))
    low = 2e-3 / 2**1.5
    expected = [0, 1e-3, 1e-3, 1e-3, 2e-3, 2e-3, low, low, low, low, 2 * low]
    assert seen == pytest.approx(expected)


def test_pixel_schedule_starts_above_zero() -> None:
    costs = weight(patience=1, start=1e-3, up=1.5, down=1.5**1.5)
    for good in (True, True, False):
        costs.update(torch.tensor([good]), torch.ones(1))
    assert float(costs.cost) == pytest.approx(1e-3 * 1.5**0.5)


def test_classes_have_weights_of_their_own() -> None:
    costs = weight(3, patience=1)
    costs.update(torch.tensor([True, False, True]), torch.ones(3))
    costs.update(torch.tensor([True, False, False]), torch.ones(3))
    assert costs.cost.tolist() == pytest.approx([2e-3, 0, 1e-3 / 2**1.5])


def test_a_class_is_done_when_nothing_moves() -> None:
    """Up, down, and two epochs without 1 % of progress; half a per cent is none."""
    costs = weight(patience=1, stall=2)
    for good, least, done in (
        (True, 100.0, False),
        (False, 50.0, False),
        (True, 49.8, False),
        (True, 49.6, True),
    ):
        costs.update(torch.tensor([good]), torch.tensor([least]))
        assert bool(costs.settled) is done
    never_down = weight(patience=1, stall=1)
    never_reached = weight(patience=1, stall=1)
    for _ in range(9):
        never_down.update(torch.tensor([True]), torch.tensor([5.0]))
        never_reached.update(torch.tensor([False]), torch.tensor([math.inf]))
    assert not bool(never_down.settled)
    assert not bool(never_reached.settled)


class Count(nn.Module):
    """A linear model that remembers how many images it was shown."""

    def __init__(self, pixels: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.head = nn.Linear(pixels, classes)
        self.shown: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shown.append(len(images))
        answers: Tensor = self.head(images.flatten(1))
        return answers


def test_classes_that_are_done_leave_the_forward_pass() -> None:
    model = Count()
    stamps = Stamps(model, classes=3, image_shape=(1, 2, 2))
    search = _Smallest(3, CPU, wanted=0.5, patience=1, stall=1)
    search(stamps, batch_of(torch.rand(5, 1, 2, 2), [0, 1, 2, 0, 1]))
    search.weight.settled = torch.tensor([True, False, True])
    search(stamps, batch_of(torch.rand(5, 1, 2, 2), [0, 1, 2, 0, 1], epoch=1))
    search.weight.settled = torch.tensor([True, True, True])
    loss, scalars = search(stamps, batch_of(torch.rand(5, 1, 2, 2), [0] * 5, epoch=2))
    assert model.shown == [15, 5]
    assert (float(loss.detach()), scalars["searched"]) == (0.0, 0.0)
    loss.backward()
    assert not stamps.raw_masks.grad.any()


def test_the_smallest_successful_stamp_is_kept() -> None:
    stamps = Stamps(Count(), classes=2, image_shape=(1, 2, 2))
    search = _Smallest(2, CPU, wanted=0.5, patience=5)
    kept = []
    for raw, hits in ((0.0, (9, 0)), (-1.0, (9, 0)), (-2.0, (0, 0)), (1.0, (9, 0))):
        with torch.no_grad():
            stamps.raw_masks.fill_(raw)
        search.hits, search.shown = torch.tensor(hits).float(), torch.full((2,), 10.0)
        search.settle(stamps)
        kept.append(float(search.norms[0]))
    small = 4 * (math.tanh(-1) / 2 + 0.5)
    assert kept == pytest.approx([2.0, small, small, small])
    found = search.found(4, stamps)
    assert found.reached.tolist() == [True, False]
    assert found.norms.tolist() == pytest.approx([small, 4.0])
    assert float(found.masks[0].mean()) == pytest.approx(small / 4)


def test_own_images_do_not_count_for_pixel() -> None:
    """A model that always says class 1: of three images of other classes, three hits."""
    model = Count()
    nn.init.zeros_(model.head.weight)
    model.head.bias.data = torch.tensor([0.0, 9.0, 0.0])
    changes = Changes(model, 3, (1, 2, 2), torch.Generator().manual_seed(0))
    search = _Fewest(weight(3), 0.9)
    search(changes, batch_of(torch.rand(5, 1, 2, 2), [0, 1, 2, 0, 1]))
    assert search.hits.tolist() == [0, 3, 0]
    assert search.shown.tolist() == [3, 3, 4]


def test_pixel_sizes_and_pruning_by_hand() -> None:
    changes = Changes(Count(), 1, (1, 2, 2), torch.Generator())
    with torch.no_grad():
        changes.up.copy_(torch.tensor([[[[2.0, 0.003], [-5.0, 0.5]]]]))
        changes.down.copy_(torch.tensor([[[[0.25, 0.0], [0.0, 0.5]]]]))
    assert changes.changes().flatten().tolist() == pytest.approx([0.75, 0.003, 0, 0])
    raw = [2.0, 0.003, -5.0, 0.5, 0.25, 0.0, 0.0, 0.5]
    size = sum(math.tanh(value / 10) / 2 + 0.5 for value in raw)
    assert changes.sizes().tolist() == pytest.approx([size])
    search = _Fewest(weight(), 0.9)
    search.hits, search.shown = torch.tensor([10.0]), torch.tensor([10.0])
    search.settle(changes)
    assert search.pixels.tolist() == [1]
    assert search.best.flatten().tolist() == [0.75, 0, 0, 0]
    assert changes.up.flatten().tolist() == [1.0, 0, 0, 0.5]
    assert changes.down.flatten().tolist() == [0.25, 0, 0, 0.5]


def test_a_pixels_size_is_its_largest_channels() -> None:
    changes = Changes(Count(), 1, (3, 1, 1), torch.Generator())
    with torch.no_grad():
        changes.up.copy_(torch.tensor([0.1, 0.9, 0.3]).view(1, 3, 1, 1))
        changes.down.zero_()
    assert changes.sizes().tolist() == pytest.approx([math.tanh(0.09) / 2 + 1])


@given(
    st.lists(st.floats(1, 1e4), min_size=3, max_size=12),
    st.floats(1, 10),
    st.floats(0.01, 1),
)
def test_smallness_compares_ratios(sizes: list[float], factor: float, spread: float) -> None:
    one = smallness(torch.tensor(sizes, dtype=torch.float64), spread)
    other = smallness(torch.tensor(sizes, dtype=torch.float64) * factor, spread)
    assert other == pytest.approx(one, abs=1e-6)
    assert max(one, default=0) == one[sizes.index(min(sizes))]


def test_sizes_that_agree_accuse_nobody() -> None:
    close = torch.tensor([20.0] * 9 + [15.0])
    assert max(smallness(close, 0.5)) < 1
    assert max(smallness(torch.zeros(5), 0.5)) == 0


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(40, seed=0).resized(16)


def test_a_white_pixel_that_decides_is_found(digits: ImageData) -> None:
    """A model in closed form: class 3 wins by far where the first pixel is white."""

    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(17, 10, bias=False)
            with torch.no_grad():
                self.head.weight.zero_()
                self.head.weight[:, :10] = 10 * torch.eye(10)
                self.head.weight[3, 16] = 20.0

        def forward(self, images: Tensor) -> Tensor:
            rows = images.mean((1, 3))
            answers: Tensor = self.head(torch.cat([rows, images[:, 0, 0, :1]], 1))
            return answers

    for name, options in (
        ("neural-cleanse", {"epochs": 60, "patience": 3}),
        ("pixel", {"epochs": 150, "patience": 4}),
    ):
        result, recovered = scan(Corner(), digits, scanner(name, **options), labels="model")
        assert result.suspect == 3
        assert result.accused == [3]
        assert result.finding(3).attack_success == 1.0
        black = torch.zeros(1, 1, 16, 16)
        shown = recovered[3].stamp(black, torch.Generator())[0, 0]
        assert float(shown[0, 0]) > 0.1
