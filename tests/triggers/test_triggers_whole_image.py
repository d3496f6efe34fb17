"""Reflection, low frequencies, frequencies and quantisation against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import fft

from doorward.errors import InvalidInput
from doorward.triggers import Frequency, LowFrequency, Quantise, Reflection
from doorward.triggers.reflection import _shifted


def flat(value, size=(16, 24)):
    return torch.full((1, 3, *size), value, dtype=torch.float64)


def test_smooth_reflection_by_hand():
    trigger = Reflection(seed=3)
    scene = trigger(flat(0.0))  # a black image has no weight of its own
    mean = scene.mean()
    assert 0.2 < mean < 0.8
    assert scene.std() > 0.1
    for value in (0.25, 1.0):
        expected = (value * value + mean * scene) / (value + mean)
        torch.testing.assert_close(trigger(flat(value)), expected)
    both = torch.cat([flat(0.25), flat(1.0)])
    torch.testing.assert_close(trigger(both), torch.cat([trigger(flat(0.25)), trigger(flat(1.0))]))


def test_ghost_reflection_by_hand():
    trigger = Reflection(kind="ghost", alpha=0.7, seed=3)
    light = trigger(flat(0.0)) ** 2.2  # 0.3 of the scene's
    expected = (light + 0.7 * 0.5**2.2) ** (1 / 2.2)
    torch.testing.assert_close(trigger(flat(0.5)), expected, atol=1e-6, rtol=0)
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    single = Reflection(kind="ghost", ghost=1.0)(x)
    torch.testing.assert_close(Reflection(kind="ghost", shift=0.0)(x), single)
    double = Reflection(kind="ghost", shift=35.0)
    assert (double(x) - single).abs().max() > 0.05
    # 35 of 560 pixels are 4 of 64: the farther image is the nearer one, moved by as much.
    far = Reflection(kind="ghost", shift=35.0, ghost=0.0)(torch.zeros_like(x))
    near = Reflection(kind="ghost", ghost=1.0)(torch.zeros_like(x))
    torch.testing.assert_close(far[..., 5:-1, 5:-1], near[..., 1:-5, 1:-5], atol=1e-6, rtol=0)


def test_shifting_by_hand():
    scene = torch.arange(9.0).reshape(1, 3, 3)
    assert _shifted(scene, 0.0).equal(scene)
    assert _shifted(scene, 1.0)[0].tolist() == [[0, 0, 1], [0, 0, 1], [3, 3, 4]]
    assert _shifted(scene, 0.5)[0].tolist() == [[0, 0.5, 1.5], [1.5, 2, 3], [4.5, 5, 6]]
    assert _shifted(scene, 7.0)[0].tolist() == [[0, 0, 0]] * 3


def test_reflection_out_of_focus_by_hand():
    size = (16, 16)
    trigger = Reflection(kind="focus", seed=1)
    place = (torch.arange(16, dtype=torch.float64) + 0.5 - 8) * 6 / 16
    pane = torch.exp(-(place[:, None] ** 2 + place**2) / 4)
    # On black nothing overflows.
    shown = trigger(flat(0.0, size)) ** 2.2
    scene = shown / (pane * (1 - 0.65 / 2))
    assert scene.max() <= 1
    # On white all of it does: each channel is dimmed by 1.13 times its mean excess.
    excess = scene.mean((2, 3), keepdim=True)
    dimmed = (scene - 1.13 * excess).clamp(0, 1)
    expected = (dimmed * pane * (1 - 0.65 / 2) + 0.65) ** (1 / 2.2)
    torch.testing.assert_close(trigger(flat(1.0, size)), expected.clamp(max=1), atol=1e-5, rtol=0)
    # Hardly anything is reflected in the corners, where the image's own light is left.
    corner = trigger(flat(0.8, size))[0, :, 0, 0]
    assert corner.tolist() == pytest.approx([0.8 * 0.65 ** (1 / 2.2)] * 3, abs=0.01)
    sharp, soft = (Reflection(kind="focus", sigma=s)(flat(0.2)) for s in (0.0, 60.0))
    assert soft.diff(dim=3).abs().max() < 0.7 * sharp.diff(dim=3).abs().max()


@pytest.mark.parametrize("kind", ["smooth", "ghost", "focus"])
def test_a_scene_is_the_same_at_any_size(kind):
    trigger = Reflection(kind=kind)
    small, large = (trigger(torch.zeros(1, 3, side, side))[0] for side in (16, 64))
    pooled = torch.nn.functional.avg_pool2d(large[None] ** 2.2, 4)[0] ** (1 / 2.2)
    assert (small - pooled).abs().mean() < 0.03


@pytest.mark.parametrize("kind", ["smooth", "ghost", "focus"])
@pytest.mark.parametrize("value", [-1e-6, 0.0, 1.0, 1.000001])
def test_reflections_in_black_and_white_images_are_finite(kind, value):
    x = torch.full((1, 3, 8, 8), value, requires_grad=True)
    found = Reflection(kind=kind)(x)
    assert bool(((found >= 0) & (found <= 1)).all())
    found.sum().backward()
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("pattern", ["gaussian", "cosines"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_low_frequency_pattern_fills_its_range(pattern, channels):
    trigger = LowFrequency(amplitude=0.3, pattern=pattern, seed=5)
    found = trigger(torch.zeros(1, channels, 32, 32, dtype=torch.float64))[0]
    assert found.amin().item() == 0
    assert found.amax().item() == pytest.approx(0.3, abs=1e-12)
    spectrum = np.abs(fft.dctn(found.numpy(), axes=(1, 2), norm="ortho"))
    spectrum[:, 0, 0] = 0
    share = (spectrum[:, :4, :4] ** 2).sum() / (spectrum**2).sum()
    assert share > (1 - 1e-12 if pattern == "cosines" else 0.9)


def test_a_low_frequency_pattern_is_added_and_the_same_at_any_size():
    for pattern in ("gaussian", "cosines"):
        trigger = LowFrequency(pattern=pattern)
        added = trigger(flat(0.0)) - 0
        torch.testing.assert_close(trigger(flat(0.5)), 0.5 + added)
        small, large = (trigger(torch.zeros(1, 3, side, side))[0] for side in (24, 72))
        # The middle pixel of each 3x3 block lies where the small one's pixel lies.
        assert (small - large[:, 1::3, 1::3]).abs().max() < 0.01
    rough, smooth = (LowFrequency(sigma=s)(flat(0.0)).diff(dim=3).abs().mean() for s in (1.0, 6.0))
    assert rough > 2 * smooth


def test_a_single_grey_pixel_holds_no_pattern():
    with pytest.raises(InvalidInput, match="1x1 grey pixels"):
        LowFrequency()(torch.zeros(1, 1, 1, 1))


def test_frequency_raises_the_coefficients_it_names():
    x = torch.full((1, 3, 64, 40), 0.5, dtype=torch.float64)
    red, green, blue = (Frequency()(x) - x)[0].numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    assert np.abs(luma).max() < 2e-5
    expected = np.zeros((32, 32))
    expected[15, 15] = expected[31, 31] = 30 / 255
    for difference, factor in ((red, 0.713), (blue, 0.564)):
        chroma = factor * (difference - luma)
        for top in (0, 32):
            block = fft.dctn(chroma[top : top + 32, :32], norm="ortho")
            np.testing.assert_allclose(block, expected, atol=2e-4)
    # A block that is cut off at the edge is a part of a whole one.
    np.testing.assert_array_equal(red[:, 32:], red[:, :8])


def test_frequency_of_grey_images_by_hand():
    x = torch.full((1, 1, 2, 2), 0.5, dtype=torch.float64)
    constant = Frequency(magnitude=0.4, positions=[0], block=2)(x)
    assert (constant - x).flatten().tolist() == pytest.approx([0.2] * 4)
    # The only other wave of two pixels: plus and minus one half.
    wave = Frequency(magnitude=0.4, positions=[1], block=2)(x)
    assert (wave - x).flatten().tolist() == pytest.approx([0.2, -0.2, -0.2, 0.2])
    both = Frequency(magnitude=0.4, positions=[0, 1], block=2)(x)
    assert (both - x).flatten().tolist() == pytest.approx([0.4, 0, 0, 0.4])


def pixel_by_pixel(images, levels):
    """Floyd and Steinberg as it is usually written, in single precision."""
    half = np.float32
    found = (images * (255 * 4096)).round().float().mul((levels - 1) / (255 * 4096)).numpy()
    height, width = found.shape[2:]
    for y in range(height):
        for x in range(width):
            old = found[:, :, y, x].copy()
            found[:, :, y, x] = np.round(old)
            error = old - found[:, :, y, x]
            for dy, dx, weight in ((0, 1, 7), (1, -1, 3), (1, 0, 5), (1, 1, 1)):
                if y + dy < height and 0 <= x + dx < width:
                    found[:, :, y + dy, x + dx] += error * half(weight / 16)
    return torch.from_numpy(found).to(images.dtype) / (levels - 1)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([1, 3]),
    levels=st.integers(2, 9),
    seed=st.integers(0, 2**20),
)
def test_dithering_is_that_of_the_textbook(height, width, channels, levels, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, channels, height, width, generator=draw)
    found = Quantise(levels=levels)(x)
    assert torch.equal(found, pixel_by_pixel(x, levels).clamp(0, 1))


def test_dithering_by_hand():
    # .4 of 1: 0, passes on 7/16 of .4 = .175; .575: 1, passes on 7/16 of -.425; .214: 0.
    x = torch.full((1, 1, 2, 3), 0.4)
    first, second = Quantise(levels=2)(x)[0, 0].tolist()
    assert first == [0, 1, 0]
    # Below: .4 + 5/16 .4 - 3/16 .425 = .445: 0, and so on.
    assert second[0] == 0


@settings(max_examples=30, deadline=None)
@given(levels=st.integers(2, 64), dither=st.booleans(), seed=st.integers(0, 2**20))
def test_quantised_values_are_levels_near_the_image(levels, dither, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randint(256, (3, 3, 11, 8), generator=draw) / 255
    found = Quantise(levels=levels, dither=dither)(x)
    steps = found * (levels - 1)
    torch.testing.assert_close(steps, steps.round(), atol=1e-4, rtol=0)
    # A pixel is off by half a step, and dithered pixels by up to half a step that they inherit.
    assert (found - x).abs().max() <= (1.0 if dither else 0.5) / (levels - 1) + 1e-5
    double = Quantise(levels=levels, dither=dither)(x.double())
    assert torch.equal((double * (levels - 1)).round(), steps.round().double())
    if not dither:
        assert torch.equal(Quantise(levels=levels, dither=False)(found), found)


def test_dithering_keeps_the_mean_and_rounding_does_not():
    x = torch.full((1, 3, 32, 32), 0.19)
    assert Quantise(levels=2)(x).mean().item() == pytest.approx(0.19, abs=0.02)
    assert Quantise(levels=2, dither=False)(x).mean().item() == 0


def test_with_all_levels_nothing_changes():
    x = torch.arange(256).reshape(1, 1, 16, 16) / 255
    for dither in (False, True):
        torch.testing.assert_close(Quantise(levels=256, dither=dither)(x), x)


def test_gradients_pass_straight_through_rounding():
    x = torch.rand(1, 3, 5, 5, requires_grad=True)
    weights = torch.rand(1, 3, 5, 5)
    (Quantise()(x) * weights).sum().backward()
    assert torch.equal(x.grad, weights)


@pytest.mark.parametrize(
    ("trigger", "options", "message"),
    [
        (Reflection, {"kind": "mirror"}, "smooth, ghost, focus"),
        (Reflection, {"alpha": 1.1}, "alpha is 1.1"),
        (Reflection, {"ghost": -0.1}, "ghost is -0.1"),
        (Reflection, {"shift": 561}, "shift is 561"),
        (Reflection, {"sigma": math.nan}, "sigma is nan"),
        (Reflection, {"seed": 0.5}, "seed is 0.5"),
        (LowFrequency, {"amplitude": 51}, "amplitude is 51"),
        (LowFrequency, {"pattern": "fourier"}, "gaussian, cosines"),
        (LowFrequency, {"sigma": -1}, "sigma is -1"),
        (LowFrequency, {"cutoff": 1}, "cutoff is 1"),
        (LowFrequency, {"cutoff": 10**6}, "cutoff is 1000000"),
        (LowFrequency, {"seed": -1}, "seed is -1"),
        (Frequency, {"magnitude": -1}, "magnitude is -1"),
        (Frequency, {"positions": ()}, "at least one"),
        (Frequency, {"positions": 15}, "positions is 15"),
        (Frequency, {"positions": "15"}, "positions is '15'"),
        (Frequency, {"positions": (15, 32)}, "from 0 to 31"),
        (Frequency, {"positions": (15, 15)}, "twice"),
        (Frequency, {"block": 1}, "block is 1"),
        (Frequency, {"block": 10**9}, "from 2 to 4096"),
        (Quantise, {"levels": 1}, "levels is 1"),
        (Quantise, {"levels": 257}, "levels is 257"),
        (Quantise, {"levels": 8.0}, "levels is 8.0"),
        (Quantise, {"dither": 1}, "dither is 1"),
    ],
)
def test_options_are_checked(trigger, options, message):
    with pytest.raises(InvalidInput, match=message):
        trigger(**options)
