"""MESA's baseline of single points, against steps by hand and in a planted model."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import DoorwardError, InvalidInput
from doorward.models import create
from doorward.randomness import generator
from doorward.scanning import load_recovered, save_recovered
from doorward.scanning.mesa.reference import Points, PointSearch, reverse_points
from doorward.training.context import Context


class Sums(nn.Module):
    """Class 1 by the sum of all pixels, with a normalisation that it tells."""

    std = (0.5,)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def forward(self, images: Tensor) -> Tensor:
        total = self.weight * images.float().sum((1, 2, 3))
        return torch.stack([torch.zeros_like(total), total], 1)


def black(count: int = 8) -> ImageData:
    images = torch.zeros(count, 1, 8, 8, dtype=torch.uint8)
    return ImageData(images, torch.arange(count) % 2, ("a", "b"))


def first_point(seed: int) -> Tensor:
    """Where a search begins: uniform in [0, 1]."""
    context = Context(nn.Flatten(), seed=seed, device=torch.device("cpu"), room="scanning")
    return torch.rand(1, 2, 2, generator=context.generator("point", 0))


def test_one_step_by_hand() -> None:
    """Pixels move by lr * std^2 * (1 - P), the slope of the mean cross-entropy."""
    search = PointSearch(size=2, images=8, batch_size=8, passes=1, lr=0.2)
    found = reverse_points(Sums(), black(), target=1, count=1, search=search, seed=3)
    start = first_point(3)
    slope = 1 - torch.sigmoid(start.sum())
    expected = (start + 0.2 * 0.25 * slope).clamp(0, 1)
    assert torch.allclose(found.patches[0], expected, atol=1e-3)


def test_points_end_within_the_pixels() -> None:
    search = PointSearch(size=2, images=8, batch_size=4, passes=3, lr=50.0)
    found = reverse_points(Sums(), black(), target=1, count=3, search=search)
    assert found.patches.min() == found.patches.max() == 1
    assert found.success == (1.0, 1.0, 1.0)


def test_restarts_together_are_restarts_alone() -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    images = load("digits").sample(40, seed=0).resized(16)
    search = PointSearch(size=3, images=40, batch_size=10, passes=2)
    three = reverse_points(model, images, target=2, count=3, search=search)
    one = reverse_points(model, images, target=2, count=1, search=search)
    assert torch.allclose(three.patches[0], one.patches[0], atol=5e-3)  # bf16, other batch shapes
    assert not torch.allclose(three.patches[0], three.patches[1], atol=5e-2)


@pytest.mark.parametrize(
    ("changes", "search"),
    [
        ({"target": 2}, {}),
        ({"target": -1}, {}),
        ({"count": 0}, {}),
        ({"count": True}, {}),
        ({}, {"size": 9}),
        ({}, {"lr": 0.0}),
    ],
)
def test_bad_searches_are_refused(changes: dict, search: dict) -> None:
    arguments = {"target": 1, "count": 1, **changes}

    def run() -> Points:
        constants = PointSearch.from_dict(search)
        return reverse_points(Sums(), black(), search=constants, **arguments)

    with pytest.raises(InvalidInput):
        run()


def test_points_are_stamped_opaque_anywhere() -> None:
    found = Points.of(3, torch.stack([torch.full((1, 2, 2), 0.25), torch.ones(1, 2, 2)]))
    stamped = found.stamp(torch.zeros(300, 1, 6, 6), generator(0))
    sums = stamped.sum((1, 2, 3))
    assert sums.unique().tolist() == [1.0, 4.0]
    assert 100 < int((sums == 1).sum()) < 200
    assert int((stamped > 0).any(0).sum()) == 36
    assert found.only([1]).stamp(torch.zeros(9, 1, 6, 6), generator(0)).sum() == 36
    assert found.stamp(torch.zeros(0, 1, 6, 6), generator(0)).shape == (0, 1, 6, 6)
    with pytest.raises(InvalidInput, match="do not fit"):
        found.stamp(torch.zeros(1, 3, 6, 6), generator(0))


def test_points_come_back_from_disk(tmp_path) -> None:
    found = Points.of(3, torch.rand(4, 3, 3, 3, generator=generator(0)), success=[0, 0.5, 1, 1])
    save_recovered(found, tmp_path / "points")
    again = load_recovered(tmp_path / "points")
    assert again.config() == found.config()
    assert torch.equal(again.patches, found.patches)


@pytest.mark.parametrize(
    "wrong",
    [
        {"count": 0},
        {"count": 2.0},
        {"size": "3"},
        {"size": 10**6},
        {"channels": None},
        {"success": [0.5]},
        {"success": ["much", 1.0]},
        {"success": [float("nan"), 1.0]},
        {"success": 3},
        {"target": -1},
        {"colour": 1},
    ],
)
def test_damaged_descriptions_are_refused(wrong: dict) -> None:
    with pytest.raises(DoorwardError):
        Points.from_config({"target": 0, "count": 2, "channels": 3, "size": 3, **wrong})


@pytest.mark.parametrize("patches", [torch.zeros(2, 2), torch.ones(1, 1, 2, 3)])
def test_what_is_no_patch_is_refused(patches: Tensor) -> None:
    with pytest.raises(InvalidInput):
        Points.of(0, patches)
    with pytest.raises(InvalidInput, match="outside"):
        Points.of(0, torch.full((1, 1, 2, 2), 2.0))
