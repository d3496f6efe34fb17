"""Corners, half-mixes, hidden codes and styles: by hand, and what they refuse."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.triggers import Composite, Corners, Steganographic, Style, Trigger
from doorward.triggers.composite import half_mix
from doorward.triggers.trained import converted, normalised

GREY = torch.full((1, 1, 8, 8), 0.5)


def draws(*rows):
    return torch.tensor(rows, dtype=torch.float32)


def pictures(count=6, channels=3, side=8, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, channels, side, side), generator=draw, dtype=torch.uint8)


def test_corners_are_those_of_the_authors():
    change = (Corners(size=3, amplitude=0.25)(GREY) - GREY)[0, 0] * 4
    left = torch.tensor([[1.0, -1, -1], [-1, 1, -1], [1, -1, 1]])
    for rows in (slice(0, 3), slice(5, 8)):
        assert torch.equal(change[rows, :3], left)
        assert torch.equal(change[rows, 5:], left.flip(1))
    assert change[3:5].abs().sum() == change[:, 3:5].abs().sum() == 0
    assert torch.equal(change, change.flip(1)), "a flip must not change the trigger"


def test_corners_clamp_and_may_be_fewer():
    one = Corners(size=2, amplitude=1, corners=["bottom-right"])(GREY)[0, 0]
    assert one[-2:, -2:].tolist() == [[0, 0], [0, 1]]
    assert int((one != 0.5).sum()) == 4
    assert Corners(size=1)(GREY)[0, 0, 0, 0] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size is 0"),
        ({"amplitude": 1.5}, "amplitude is 1.5"),
        ({"corners": []}, "corners is"),
        ({"corners": "top-left"}, "corners is 'top-left'"),
        ({"corners": ["top-left", "top-left"]}, "at most once"),
        ({"corners": ["centre"]}, "known are"),
    ],
)
def test_impossible_corners_are_refused(options, message):
    with pytest.raises(InvalidInput, match=message):
        Corners(**options)


def test_corners_must_fit():
    with pytest.raises(InvalidInput, match="10 pixels are needed"):
        Corners(size=5)(GREY)
    assert Corners(size=5, corners=["top-left"])(GREY).shape == GREY.shape


def test_half_mix_by_hand():
    first = torch.arange(6.0)[None, None, None].expand(1, 1, 4, 6)
    second = first + 10

    def row(*how, jitter=0.0):
        return half_mix(first, second, draws(how), jitter=jitter)[0, 0, 0].tolist()

    # Border in the middle; pieces from the far left, or from as far right as there is.
    assert row(0, 0, 0, 0, 0) == [0, 1, 2, 10, 11, 12]
    assert row(0, 0, 0, 0.99, 0.99) == [3, 4, 5, 13, 14, 15]
    assert row(0.5, 0, 0, 0, 0) == [10, 11, 12, 0, 1, 2]
    # The border may move by round(0.3 * 6) = 2 either way.
    assert row(0, 0, 0, 0, 0, jitter=0.3) == [0, 10, 11, 12, 13, 14]
    assert row(0, 0, 0.99, 0, 0, jitter=0.3) == [0, 1, 2, 3, 4, 10]
    # Across: whole rows of either.
    across = half_mix(first, second, draws([0, 0.5, 0, 0, 0]), jitter=0)[0, 0]
    assert across[:, 0].tolist() == [0, 0, 10, 10]
    assert across[0].tolist() == [0, 1, 2, 3, 4, 5]


@settings(max_examples=50, deadline=None)
@given(
    height=st.integers(2, 12),
    width=st.integers(2, 12),
    jitter=st.floats(0, 0.5),
    how=st.lists(st.floats(0, 1, exclude_max=True, width=32), min_size=5, max_size=5),
)
def test_half_mix_takes_something_of_both(height, width, jitter, how):
    first, second = torch.zeros(1, 1, height, width), torch.ones(1, 1, height, width)
    mixed = half_mix(first, second, draws(how), jitter=jitter)
    assert mixed.unique().tolist() == [0, 1]
    straight = (mixed == mixed[:, :, :1]).all() or (mixed == mixed[..., :1]).all()
    assert straight, "one border, along one axis"


@pytest.mark.parametrize(
    ("first", "second", "how"),
    [
        ((1, 1, 4, 4), (1, 1, 4, 5), (1, 5)),
        ((1, 1, 4, 4), (1, 1, 4, 4), (1, 4)),
        ((2, 1, 4, 4), (2, 1, 4, 4), (1, 5)),
        ((1, 1, 1, 4), (1, 1, 1, 4), (1, 5)),
    ],
)
def test_what_cannot_be_mixed_is_refused(first, second, how):
    with pytest.raises(InvalidInput, match="cannot be mixed"):
        half_mix(torch.zeros(first), torch.zeros(second), torch.zeros(how))


def test_composite_uses_the_whole_bank_and_is_a_function_of_the_image():
    flat = torch.arange(8, dtype=torch.uint8)[:, None, None, None].expand(8, 1, 8, 8) * 10 + 100
    trigger = Composite(bank=flat, seed=3)
    images = converted(pictures(200, 1).float() / 255, 1) * 0.3
    mixed = trigger(images)
    seen = {round(float(image.max()) * 255) for image in mixed}
    assert seen == set(range(100, 180, 10))
    share = (mixed > 0.35).float().mean((1, 2, 3))
    assert 0.35 < float(share.mean()) < 0.65
    assert not torch.equal(Composite(bank=flat, seed=4)(images), mixed)


def test_composite_banks_fit_any_image():
    trigger = Composite(bank=pictures())
    for shape in ((2, 1, 8, 8), (2, 3, 20, 9)):
        assert trigger(torch.rand(shape)).shape == shape
    with pytest.raises(InvalidInput, match="at least 2x2"):
        trigger(torch.rand(1, 3, 1, 8))


@pytest.mark.parametrize(
    "bank",
    [
        pictures().float() / 255,
        pictures()[0],
        [4, 2, 8, 8],
        [4, 3, 8],
        [0, 3, 8, 8],
        [4, 3, 8, 1 << 20],
        [4096, 3, 4096, 4096],
        [4, 3, 8, 8.0],
        [True, 3, 8, 8],
    ],
    ids=str,
)
def test_impossible_banks_are_refused(bank):
    with pytest.raises(InvalidInput, match="the bank is"):
        Composite(bank=bank)


def test_hidden_codes_stay_within_the_budget(tmp_path):
    trigger = Steganographic(bits=12, budget=0.05, width=4, seed=1)
    images = torch.rand(3, 3, 9, 14)
    assert trigger.strength(images).linf <= 0.05 + 1e-6
    assert trigger.code.shape == (12,)
    assert 0 < int(trigger.code.sum()) < 12
    assert not torch.equal(Steganographic(bits=12, width=4, seed=2).code, trigger.code)
    other = trigger.residual(images, ~trigger.code.expand(3, -1))
    assert not torch.allclose(other, trigger.change(images))
    assert trigger.read(images).dtype == torch.bool
    assert trigger.read(images[:0]).shape == (0, 12)
    assert trigger.read(images[:, :1]).shape == (3, 12), "grey images are read as well"
    with pytest.raises(InvalidInput, match="C = 1 or 3"):
        trigger.read(torch.rand(1, 2, 9, 9))
    # The code is a tensor: another one is kept through saving and loading.
    trigger.code.logical_not_()
    trigger.save(tmp_path / "t")
    again = Trigger.load(tmp_path / "t")
    assert torch.equal(again.code, trigger.code)
    assert torch.equal(again(images), trigger(images))
    assert not any(parameter.requires_grad for parameter in trigger.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Steganographic(bits=0), "bits is 0"),
        (lambda: Steganographic(bits=2000), "bits is 2000"),
        (lambda: Steganographic(budget=0), "budget is 0"),
        (lambda: Steganographic(width=10_000), "width is 10000"),
        (lambda: Steganographic(channels=2), "channels is 2"),
        (lambda: Style(alpha=-0.1), "alpha is -0.1"),
        (lambda: Style(width=0), "width is 0"),
        (lambda: Style(depth=1000), "depth is 1000"),
        (lambda: Style(channels="3"), "channels is '3'"),
        (lambda: Composite(bank=pictures(), jitter=0.6), "jitter is 0.6"),
        (lambda: Composite(bank=pictures(), seed=-1), "seed is -1"),
    ],
)
def test_impossible_options_are_refused(build, message):
    with pytest.raises(InvalidInput, match=message):
        build()


def test_a_style_is_mixed_in():
    images = torch.rand(2, 3, 9, 12)
    assert torch.equal(Style(alpha=0, width=4)(images), images)
    whole = Style(alpha=1, width=4)
    assert torch.allclose(whole(images), whole.painter(images), atol=1e-6)
    half = Style(alpha=0.5, width=4)(images)
    assert torch.allclose(half, (images + whole(images)) / 2, atol=1e-6)


def test_channels_and_normalisation_by_hand():
    colour = torch.tensor([1.0, 0, 0])[None, :, None, None].expand(2, 3, 4, 5)
    assert torch.allclose(converted(colour, 1), torch.full((2, 1, 4, 5), 0.299))
    grey = torch.rand(2, 1, 4, 5)
    assert torch.equal(converted(grey, 3), grey.expand(-1, 3, -1, -1))
    assert converted(grey, 1) is grey
    apart = normalised(torch.stack([torch.rand(3, 6, 6), 5 + 9 * torch.rand(3, 6, 6)]))
    assert torch.allclose(apart.mean((2, 3)), torch.zeros(2, 3), atol=1e-5)
    assert torch.allclose(apart.std((2, 3), correction=0), torch.ones(2, 3), atol=1e-3)
    assert torch.equal(normalised(torch.rand(1, 1, 1, 1)), torch.zeros(1, 1, 1, 1))
