"""Each trigger against values computed by hand, and its options."""

from __future__ import annotations

import math

import pytest
import torch

from doorward.errors import InvalidInput
from doorward.triggers import Blend, Patch, Sinusoid, Warp


def marked_pixels(trigger, size=(6, 7)):
    """Rows and columns that change from black, as a set."""
    changed = trigger(torch.zeros(1, 1, *size))[0, 0] > 0
    return {tuple(place) for place in changed.nonzero().tolist()}


def box(top, left, tall, wide):
    return {(r, c) for r in range(top, top + tall) for c in range(left, left + wide)}


@pytest.mark.parametrize(
    ("position", "margin", "expected"),
    [
        ("top-left", 0, box(0, 0, 2, 3)),
        ("top-right", 0, box(0, 4, 2, 3)),
        ("bottom-left", 0, box(4, 0, 2, 3)),
        ("bottom-right", 0, box(4, 4, 2, 3)),
        ("top-left", 1, box(1, 1, 2, 3)),
        ("bottom-right", 1, box(3, 3, 2, 3)),
        ("center", 1, box(2, 2, 2, 3)),
        ((0, 0), 0, box(0, 0, 2, 3)),
        ((1, 2), 0, box(1, 2, 2, 3)),
        ((-1, -1), 0, box(4, 4, 2, 3)),
        ((-2, 0), 0, box(3, 0, 2, 3)),
        ((4, 4), 0, box(4, 4, 2, 3)),
    ],
)
def test_patch_positions(position, margin, expected):
    assert marked_pixels(Patch(size=(2, 3), position=position, margin=margin)) == expected


def test_patch_colours_and_opacity():
    x = torch.full((1, 3, 4, 4), 0.5)
    red = Patch(size=1, position=(0, 0), colour=(1, 0, 0))
    assert red(x)[0, :, 0, 0].tolist() == [1, 0, 0]
    assert red(x[:, :1])[0, 0, 0, 0].item() == pytest.approx(0.299)
    faint = Patch(size=1, position=(0, 0), colour=1.0, opacity=0.2)
    assert faint(x)[0, 0, 0, 0].item() == pytest.approx(0.8 * 0.5 + 0.2)


def test_checkerboard_of_badnets():
    patch = Patch(pattern="checkerboard", size=3)(torch.full((1, 1, 3, 3), 0.5))[0, 0]
    assert patch.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_given_pattern_with_colours():
    pattern = [[[0.0, 1.0]], [[0.25, 0.0]], [[0.5, 0.0]]]
    marked = Patch(pattern=pattern, position="top-left")(torch.ones(1, 3, 4, 4))
    assert marked[0, :, 0, :2].tolist() == [[0, 1], [0.25, 0], [0.5, 0]]


def test_random_places_differ_by_image_and_seed_and_fill_the_image():
    draw = torch.Generator().manual_seed(0)
    clean = torch.randint(128, (400, 1, 6, 5), generator=draw) / 255
    tops = {}
    for seed in (0, 1):
        marked = Patch(size=2, position="random", seed=seed)(clean)
        lit = marked[:, 0] == 1
        assert lit.sum((1, 2)).tolist() == [4] * 400
        tops[seed] = lit.flatten(1).int().argmax(1)
    assert (tops[0] != tops[1]).float().mean() > 0.8
    places, counts = tops[0].unique(return_counts=True)
    assert len(places) == 5 * 4, "every place is used"
    assert counts.min() >= 5  # 20 expected in each


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"size": (1, 2, 3)}, "size"),
        ({"size": 2.5}, "size is 2.5"),
        ({"size": None}, "size is None"),
        ({"size": 10**9}, "from 1 to 4096"),
        ({"position": 3}, "position is 3"),
        ({"position": "middle"}, "position is 'middle'"),
        ({"position": (1,)}, "position"),
        ({"position": (0.5, 1)}, "position"),
        ({"margin": -1}, "margin is -1"),
        ({"colour": 255}, "colour is 255"),
        ({"colour": (1, 0)}, "colour"),
        ({"pattern": "flower"}, "pattern is 'flower'"),
        ({"pattern": [[1.0], [1.0, 0.0]]}, "rectangle"),
        ({"pattern": [[255.0]]}, "outside"),
        ({"pattern": [1.0, 1.0]}, "shape"),
        ({"opacity": 1.5}, "opacity is 1.5"),
        ({"seed": -1}, "seed is -1"),
        ({"seed": True}, "seed is True"),
    ],
)
def test_patch_options_are_checked(options, message):
    with pytest.raises(InvalidInput, match=message):
        Patch(**options)


@pytest.mark.parametrize(
    "patch",
    [Patch(size=9), Patch(size=8, margin=1), Patch(position=(7, 0)), Patch(position=(-9, 0))],
)
def test_a_patch_that_does_not_fit_is_refused(patch):
    with pytest.raises(InvalidInput, match=r"does not fit|over the image's edge"):
        patch(torch.zeros(1, 1, 8, 8))


def test_blend_by_hand():
    picture = torch.tensor([[[0.0, 1.0], [0.5, 0.25]]])
    marked = Blend(alpha=0.2, pattern="given", image=picture)(torch.full((1, 1, 2, 2), 0.5))
    expected = torch.tensor([[0.4, 0.6], [0.5, 0.45]])
    torch.testing.assert_close(marked[0, 0], expected)


def test_blend_picture_is_the_same_at_other_sizes():
    small = Blend().picture_for(torch.zeros(1, 3, 24, 24))
    large = Blend().picture_for(torch.zeros(1, 3, 72, 72))
    # The middle pixel of each 3x3 block of the large one lies where the small one's pixel lies.
    assert (small - large[:, 1::3, 1::3]).abs().max() < 1e-6
    assert small.std() > 0.2


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.1},
        {"alpha": "much"},
        {"pattern": "kitty"},
        {"pattern": "given"},
        {"image": torch.zeros(3, 4, 4)},
        {"pattern": "given", "image": torch.zeros(4, 4)},
        {"pattern": "given", "image": torch.full((3, 4, 4), 2.0)},
        {"pattern": "given", "image": [3, 0, 4]},
        {"pattern": "given", "image": [3, 10**9, 10**9]},
        {"pattern": "given", "image": "picture.png"},
        {"pattern": "given", "image": {}},
        {"pattern": "given", "image": 3},
    ],
)
def test_blend_options_are_checked(options):
    with pytest.raises(InvalidInput):
        Blend(**options)


def test_sinusoid_by_hand():
    marked = Sinusoid()(torch.full((1, 3, 5, 32), 0.5))[0]
    for column in range(32):
        wave = 20 / 255 * math.sin(2 * math.pi * 6 * column / 32)
        assert marked[:, :, column].unique().tolist() == pytest.approx([0.5 + wave], abs=1e-6)
    upright = Sinusoid(direction="vertical")(torch.full((1, 3, 32, 5), 0.5))[0]
    torch.testing.assert_close(upright, marked.transpose(1, 2))


@pytest.mark.parametrize(
    "options", [{"delta": -0.1}, {"delta": 20}, {"frequency": 0}, {"direction": "diagonal"}]
)
def test_sinusoid_options_are_checked(options):
    with pytest.raises(InvalidInput):
        Sinusoid(**options)


@pytest.mark.parametrize("width", [1, 6, 12])
def test_a_wave_that_vanishes_is_refused(width):
    with pytest.raises(InvalidInput, match=f"6 waves vanish on {width} pixels"):
        Sinusoid()(torch.full((1, 1, 8, width), 0.5))


@pytest.mark.parametrize("size", [32, 64, 224])
def test_warp_moves_pixels_as_far_as_measured_elsewhere(size):
    # Over 300 fields: 0.19 px on average per axis, its maximum 0.52 px on average, below 1 px.
    mean, largest = [], []
    x = torch.zeros(1, 1, size, size, dtype=torch.float64)
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    identity = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1)
    for seed in range(40):
        grid = Warp(seed=seed)._pattern(x, Warp(seed=seed)._draw)[0]
        pixels = ((grid - identity) * (size - 1) / 2).abs()
        mean.append(pixels.mean())
        largest.append(pixels.max())
    assert torch.stack(mean).mean().item() == pytest.approx(0.19, abs=0.02)
    assert torch.stack(largest).mean().item() == pytest.approx(0.52, abs=0.06)
    assert max(largest) < 1


def test_warp_samples_where_the_field_says():
    # On a horizontal ramp a bilinear sample is the place it was taken from.
    ramp = torch.linspace(0, 1, 17, dtype=torch.float64).expand(1, 1, 13, 17)
    warp = Warp(seed=2)
    grid = warp._pattern(ramp, warp._draw)
    torch.testing.assert_close(warp(ramp)[0, 0], (grid[0, ..., 0] + 1) / 2)
    column = torch.linspace(0, 1, 13, dtype=torch.float64)[:, None].expand(1, 1, 13, 17)
    torch.testing.assert_close(warp(column)[0, 0], (grid[0, ..., 1] + 1) / 2)


def test_a_single_pixel_cannot_be_warped_away():
    x = torch.full((1, 3, 1, 1), 0.7)
    torch.testing.assert_close(Warp()(x), x)


@pytest.mark.parametrize(
    "options", [{"k": 1}, {"k": 4.0}, {"k": 10**9}, {"s": -1}, {"grid_rescale": 0}]
)
def test_warp_options_are_checked(options):
    with pytest.raises(InvalidInput):
        Warp(**options)
