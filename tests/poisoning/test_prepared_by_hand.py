"""What preparations are made of: views, steps up a loss, AdaIN, sunrises. By hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.poisoning.prepared import FastAdversarial, ascend
from doorward.poisoning.prepared.detoxing import compromised
from doorward.poisoning.prepared.hiding import _common_share
from doorward.poisoning.prepared.mixing import _classmates
from doorward.poisoning.prepared.styling import _gap, _Statistics, _statistics, adain
from doorward.poisoning.prepared.sunrise import sunrises
from doorward.poisoning.prepared.views import Replaced, gathered, recipe_of_steps


def data(count=20, channels=1, side=4) -> ImageData:
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(200, (count, channels, side, side), generator=draw, dtype=torch.uint8)
    return ImageData(pixels, torch.arange(count) % 4, tuple("abcd"))


def linear(*rows) -> nn.Module:
    head = nn.Linear(len(rows[0]), len(rows), bias=False)
    head.weight.data.copy_(torch.tensor(rows))
    return nn.Sequential(nn.Flatten(), head).eval()


def white(count, side=4):
    return torch.full((count, 1, side, side), 255, dtype=torch.uint8)


def test_replaced_images_and_nothing_else():
    clean = data()
    view = Replaced(clean, torch.tensor([7, 2]), torch.stack([white(1)[0], 0 * white(1)[0]]))
    expected = clean.images.clone()
    expected[7], expected[2] = 255, 0
    order = torch.randperm(20)
    images, labels = view.fetch(order)
    assert torch.equal(images, expected[order])
    assert torch.equal(labels, clean.labels[order])
    for (some, theirs), rows in zip(view.stream(order.split(6)), order.split(6), strict=True):
        assert torch.equal(some, expected[rows])
        assert torch.equal(theirs, clean.labels[rows])
    assert (len(view), view.num_classes, view.image_shape) == (20, 4, (1, 4, 4))
    assert view.classes == clean.classes
    other = Replaced(clean, torch.tensor([7, 2]), white(2))
    assert view.name != other.name
    nothing = Replaced(clean, torch.tensor([], dtype=torch.int64), white(0))
    assert torch.equal(nothing.fetch(order)[0], clean.images[order])


@pytest.mark.parametrize(
    ("rows", "images", "message"),
    [
        ([1, 1], white(2), "distinct"),
        ([-1], white(1), "distinct"),
        ([20], white(1), "images 0 to 19"),
        ([1, 2], white(1), "cannot be replaced"),
        ([1], white(1, 5), "cannot be replaced"),
        ([1], white(1).float(), "torch.float32"),
    ],
)
def test_impossible_replacements_are_refused(rows, images, message):
    with pytest.raises(InvalidInput, match=message):
        Replaced(data(), torch.tensor(rows), images)


def test_gathered_images():
    clean = data()
    some = gathered(clean, 8, seed=1)
    assert len(some) == 8
    assert some.classes == clean.classes
    for image, label in zip(some.images, some.labels, strict=True):
        row = (clean.images == image).flatten(1).all(1).nonzero().item()
        assert clean.labels[row] == label
    assert len(gathered(clean, 100, seed=1)) == 20
    blank = gathered(clean, 8, seed=1, labelled=False)
    assert blank.num_classes == 1
    assert torch.equal(blank.images, some.images)
    assert not torch.equal(gathered(clean, 8, seed=2).images, some.images)


@given(images=st.integers(1, 100_000), steps=st.integers(1, 3000), batch=st.integers(1, 512))
def test_recipes_take_the_steps_asked_for(images, steps, batch):
    assert recipe_of_steps(images, steps, batch).steps(images) == steps


def test_ascent_by_hand():
    # The loss of class 0 falls in pixel 0, rises in pixel 1, and does not know pixel 2.
    model = linear([2.0, -1.0, 0.0], [0.0, 0.0, 0.0])
    image, label = torch.tensor([[[[0.5, 0.5, 0.5]]]]), torch.tensor([0])

    def moved(**options):
        return ascend(model, image, label, **options)[0, 0, 0]

    one = moved(eps=0.2, steps=1, step=0.05)
    assert torch.allclose(one, torch.tensor([0.45, 0.55, 0.5]))
    # The default step is 1.5 eps / steps: two steps of 0.15 are cut to 0.2.
    assert torch.allclose(moved(eps=0.2, steps=2), torch.tensor([0.3, 0.7, 0.5]))
    # By Euclidean length the step lies along the gradient, (-2, 1) / sqrt(5).
    slope = torch.tensor([-2.0, 1.0, 0.0]) / 5**0.5
    assert torch.allclose(moved(eps=0.3, steps=1, step=0.1, norm="l2"), 0.5 + 0.1 * slope)
    assert torch.allclose(moved(eps=0.3, steps=9, step=0.1, norm="l2"), 0.5 + 0.3 * slope)
    # Pixels stay pixels.
    assert moved(eps=0.9, steps=1, step=0.9).tolist() == [0, 1, 0.5]


@settings(max_examples=25, deadline=None)
@given(
    eps=st.floats(0.01, 0.5),
    steps=st.integers(1, 4),
    norm=st.sampled_from(["linf", "l2"]),
    start=st.booleans(),
)
def test_ascent_stays_in_the_ball_and_climbs(eps, steps, norm, start):
    draw = torch.Generator().manual_seed(1)
    model = linear(*torch.randn(4, 16, generator=draw).tolist())
    images, labels = torch.rand(6, 1, 4, 4, generator=draw), torch.arange(6) % 4
    moved = ascend(
        model, images, labels, eps=eps, steps=steps, norm=norm, draw=draw if start else None
    )
    change = (moved - images).flatten(1)
    length = change.abs().amax(1) if norm == "linf" else change.norm(dim=1)
    assert float(length.max()) <= eps + 1e-5
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 1
    assert not moved.requires_grad
    if not start:
        loss = nn.functional.cross_entropy
        assert loss(model(moved), labels) > loss(model(images), labels)


@pytest.mark.parametrize(
    "options",
    [
        {"eps": 0},
        {"eps": -1},
        {"eps": float("nan")},
        {"eps": 0.1, "steps": 0},
        {"eps": 0.1, "step": 0.0},
        {"eps": 0.1, "norm": "l1"},
    ],
)
def test_impossible_ascents_are_refused(options):
    with pytest.raises(InvalidInput, match="positive numbers"):
        ascend(linear([1.0], [0.0]), torch.rand(1, 1, 1, 1), torch.tensor([0]), **options)


def test_adversarial_training_sees_harder_images():
    draw = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(16), nn.Linear(16, 4)).train()
    model[2].weight.data.normal_(generator=draw)
    images, labels = torch.rand(32, 1, 4, 4, generator=draw), torch.arange(32) % 4
    batch = Batch(images, labels, torch.arange(32), 0, 0, 32)
    loss, scalars = FastAdversarial(0.2, seed=0)(model, batch)
    assert model.training
    assert int(model[1].num_batches_tracked) == 1, "only the images trained on are counted"
    clean = nn.functional.cross_entropy(model(images), labels)
    assert loss > clean
    assert 0 <= float(scalars["accuracy"]) <= 1
    again, _ = FastAdversarial(0.2, seed=0)(model, batch)
    assert not torch.equal(FastAdversarial(0.2, seed=1)(model, batch)[0], again)


def test_adain_by_hand():
    features = torch.tensor([[[[1.0, 3.0]], [[10.0, 10.0]]]])
    moved = adain(features, mean=torch.tensor([7.0, 2.0]), deviation=torch.tensor([2.0, 5.0]))
    # Channel 0: mean 2, deviation 1; channel 1 has nothing but its mean.
    expected = torch.tensor([[[[5.0, 9.0]], [[2.0, 2.0]]]])
    assert torch.allclose(moved, expected, atol=1e-4)
    maps = torch.randn(3, 2, 6, 6)
    style = _Statistics(torch.tensor([1.0, -1.0]), torch.tensor([0.5, 3.0]))
    styled = adain(maps, mean=style.mean, deviation=style.deviation)
    assert float(_gap(styled, style)) < 1e-6
    assert float(_gap(maps, style)) > 0.1
    # Mean off by 1 in both channels, in units of (0.25 + 9) / 2.
    assert float(_gap(styled + 1, style)) == pytest.approx(1 / 4.625, rel=1e-3)
    flat = torch.zeros(1, 1, 2, 2, requires_grad=True)
    _statistics(flat).deviation.sum().backward()
    assert torch.isfinite(flat.grad).all()


def test_common_share_by_hand():
    same = torch.randn(1, 3, 4, 4).expand(16, -1, -1, -1)
    assert float(_common_share(same)) == pytest.approx(1)
    signs = torch.tensor([1.0, -1.0]).repeat(8)[:, None, None, None]
    assert float(_common_share(same * signs)) == pytest.approx(0)
    assert float(_common_share(same[:5])) == 0, "too few for a group"


def test_compromised_channels_by_hand():
    before = torch.tensor([[0.0, 0.0, 5.0, 1.0], [2.0, 0.0, 5.0, 3.0]])
    after = before + torch.tensor([1.0, 1.0, 0.0, 3.0])
    # Rises 1, 1, 0, 3 in units of 1, (almost) 0, (almost) 0, 1.
    assert compromised(before, after, most=0.5).tolist() == [1, 3]
    assert compromised(before, after, most=0.01).tolist() == [1]


def test_classmates_share_the_class():
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 0, 0])
    rows = torch.arange(8).repeat(50)
    mates = _classmates(labels, rows, torch.Generator().manual_seed(0))
    assert torch.equal(labels[mates], labels[rows])
    assert set(mates.tolist()) == set(range(8))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 16, 20), (3, 9, 7)])
def test_sunrises(shape):
    sky = sunrises(40, shape, seed=0)
    assert sky.shape == (40, *shape)
    assert bool(((sky >= 0) & (sky <= 1)).all())
    assert torch.equal(sky, sunrises(40, shape, seed=0))
    assert not torch.equal(sky, sunrises(40, shape, seed=1))
    assert float(sky.std((2, 3)).min()) > 0.05
    if shape[0] == 3:
        red, _, blue = sky.mean((0, 2, 3))
        assert red > blue + 0.1, "warm"
    rows = sky.mean((0, 1, 3))
    assert rows[-1] < rows[shape[1] // 2], "land is darker than the sky above it"
