"""The operations that filters are made of, against values computed by hand, and the filters."""

from __future__ import annotations

import colorsys
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from doorward.errors import InvalidInput, UnknownName
from doorward.triggers import FILTERS, Filter, colour
from doorward.triggers.smoothing import blurred


def pixel(*channels):
    return torch.tensor(channels, dtype=torch.float64)[None, :, None, None]


GREY = pixel(0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (colour.luma(pixel(1, 0, 0)), [0.299]),
        (colour.luma(pixel(1, 1, 1), (0.2, 0.3, 0.1)), [0.6]),
        (colour.brightness(pixel(0.2, 0.5, 0.8), 1.5), [0.3, 0.75, 1]),
        (colour.contrast(pixel(0.6, 0.05, 0.98), 1.2), [0.62, 0, 1]),
        (colour.saturate(pixel(1, 0, 0), 0.5), [0.6065, 0.1065, 0.1065]),
        (colour.saturate(pixel(0.6, 0.5, 0.5), 2.0), [0.6787, 0.4787, 0.4787]),
        (colour.sepia(GREY, 1.0), [0.6755, 0.6015, 0.4685]),
        (colour.sepia(GREY, 0.2), [0.5351, 0.5203, 0.4937]),
        (colour.modulate(GREY, 1.2, 0.1), [0.6, 0.6, 0.6]),
        (colour.modulate(pixel(0.9, 0.9, 0.9), 1.5, 0.5), [1, 1, 1]),
        # Lightness 0.5, saturation 0.4, of which one and a half is 0.6: 0.5 -+ 0.3.
        (colour.modulate(pixel(0.7, 0.5, 0.3), 1.0, 1.5), [0.8, 0.5, 0.2]),
        (colour.gamma(pixel(0.25, 0, 1), 2), [0.5, 1e-3, 1]),
        (colour.auto_gamma(pixel(0.25, 0.25, 0.25)), [0.5, 0.5, 0.5]),
        (colour.auto_gamma(pixel(0, 0, 0.75)), [1e-3, 1e-3, math.sqrt(0.75)]),
        (colour.sigmoidal_contrast(pixel(0, 0.5, 1), 3), [0, 0.5, 1]),
        # (1 / (1 + e^-1) - 1 / (1 + e^2)) / ((e^2 - 1) / (e^2 + 1)), by hand.
        (colour.sigmoidal_contrast(pixel(0.75, 0.75, 0.75), 4), [0.8034] * 3),
        (colour.level(pixel(0.25, 0.375, 0.8), 0.25), [0, 0.25, 1]),
        (
            colour.level(pixel(0.375, 0.375, 0.375), 0.25, (True, False, False)),
            [0.25, 0.375, 0.375],
        ),
        (colour.mix(GREY, (255, 0, 0), 0.2), [0.6, 0.4, 0.4]),
        (colour.tone(pixel(0, 0, 0), (255, 51, 0), 0.5, dark=True), [0.5, 0.1, 0]),
        (colour.tone(pixel(1, 1, 1), (255, 51, 0), 0.5, dark=True), [1, 1, 1]),
        (colour.tone(pixel(1, 1, 1), (255, 51, 0), 0.5, dark=False), [1, 0.6, 0.5]),
        (colour.tone(GREY, (255, 51, 0), 0.5, dark=False), [0.625, 0.425, 0.375]),
        (colour.darken(GREY, (51, 255, 0)), [0.2, 0.5, 0]),
        (colour.darken(GREY, (51, 255, 0), 0.5), [0.35, 0.5, 0.25]),
        (colour.lighten(GREY, (51, 255, 0)), [0.5, 1, 0.5]),
        (colour.lighten(GREY, (51, 255, 0), 0.5), [0.5, 0.75, 0.5]),
        (colour.screen(GREY, (51, 255, 0)), [0.6, 1, 0.5]),
        (colour.screen(GREY, (51, 255, 0), 0.5), [0.55, 0.75, 0.5]),
        (colour.colour_dodge(GREY, (51, 255, 0)), [0.625, 1, 0.5]),
        (colour.overlay(pixel(0.25, 0.5, 0.75), (51, 51, 51)), [0.1, 0.2, 0.6]),
        (colour.curve(pixel(0.25, 0.25, 0.25), (0, 0.2, 1), 0), [0.1, 0.25, 0.25]),
        (colour.curve(pixel(0.25, 0.25, 0.75), (0, 0.2, 1), 2), [0.25, 0.25, 0.6]),
        (colour.curve(pixel(0, 1, 0), (0.1, 0.2, 0.9), 1), [0, 0.9, 0]),
    ],
)
def test_operations_by_hand(found, expected):
    assert found.flatten().tolist() == pytest.approx(expected, abs=6e-5)


def test_modulate_is_what_hsl_says():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(1, 3, 5, 7, generator=draw, dtype=torch.float64)
    found = colour.modulate(x, 0.7, 0.6)
    for red, green, blue, *got in torch.cat([x, found], 1)[0].flatten(1).T.tolist():
        hue, lightness, saturation = colorsys.rgb_to_hls(red, green, blue)
        assert got == pytest.approx(colorsys.hls_to_rgb(hue, lightness * 0.7, saturation * 0.6))


def test_radial_pictures_by_hand():
    picture = colour.radial(torch.zeros(1, 3, 3, 3), (255, 0, 51), (0, 0, 51), 2.0)
    assert picture[:, 1, 1].tolist() == pytest.approx([1, 0, 0.2])
    assert picture[:, 0, 1].tolist() == pytest.approx([0.5, 0, 0.2])
    assert picture[:, 2, 2].tolist() == pytest.approx([1 - math.sqrt(2) / 2, 0, 0.2])
    # Half the longer side, times 1.5, is 3.75 pixels; the far corner is 2 and 0.5 away.
    dark = colour.vignette(torch.ones(1, 3, 2, 5), (255, 255, 255), (0, 0, 0))
    assert dark[0, 0, 0, 0].item() == pytest.approx(1 - math.hypot(2, 0.5) / 3.75)
    assert dark[0, 0].tolist() == dark[0, 0].flip(0, 1).tolist()


def test_sharpening_by_hand():
    flat = torch.full((1, 3, 9, 9), 0.3)
    torch.testing.assert_close(colour.sharpen(flat, 0.7, 10), flat)
    edge = torch.full((1, 3, 64, 64), 0.4, dtype=torch.float64)
    edge[..., 32:] = 0.6
    soft = ndimage.gaussian_filter(edge[0, 0].numpy(), 2 * 1.5, mode="nearest", truncate=4)
    expected = 1.5 * edge[0, 0] - 0.5 * torch.from_numpy(soft)
    torch.testing.assert_close(colour.sharpen(edge, 0.5, 1.5)[0, 1], expected)


@pytest.mark.parametrize("size", [(1, 1), (5, 12), (40, 33)])
@pytest.mark.parametrize(("edge", "mode"), [("nearest", "nearest"), ("black", "constant")])
def test_blur_is_that_of_scipy(size, edge, mode):
    draw = torch.Generator().manual_seed(1)
    x = torch.rand(2, 3, *size, generator=draw, dtype=torch.float64)
    expected = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode=mode, truncate=4)
    torch.testing.assert_close(blurred(x, 1.5, edge=edge), torch.from_numpy(expected))
    assert blurred(x, 0.0) is x


def _s_curve(x):
    low, high = 1 / (1 + math.exp(1.5)), 1 / (1 + math.exp(-1.5))
    return (1 / (1 + math.exp(-3 * (x - 0.5))) - low) / (high - low)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # Screened to .6429, .5624, .6106; contrast .6572, .5686, .6217; brightness .7230, .6254,
        # .6838; of which the grey is .6504, and 1.3 times as far away from it:
        ("1977", [0.7447, 0.6180, 0.6938]),
        # Grey becomes .6, then .48 + .2 navy, to the power of 1 / .9, twice through the S-curve.
        (
            "gotham",
            [
                _s_curve(_s_curve((0.48 + 0.2 * navy / 255) ** (1 / 0.9)))
                for navy in (0x22, 0x2B, 0x6D)
            ],
        ),
        # Dodged to .6407, .6043, .6281, all above one half: screened.
        ("kelvin", [0.7971, 0.5965, 0.3524]),
        # Half grey has half grey's gamma: 1.2 times as bright, then .8 of it and .2 of #FF9900.
        ("kelvin-magick", [0.48 + 0.2, 0.48 + 0.2 * 0.6, 0.48]),
        # No darkening; blue lightened by .4 of its way to 150; then sepia and the rest.
        ("nashville", [0.5738, 0.5512, 0.5533]),
    ],
)
def test_filters_of_a_grey_pixel_by_hand(kind, expected):
    assert FILTERS[kind](GREY).flatten().tolist() == pytest.approx(expected, abs=2e-4)


def test_filters_look_as_they_are_described():
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(4, 3, 32, 32, generator=draw) * 0.8 + 0.1

    def chroma(images):
        return (images.amax(1) - images.amin(1)).mean().item()

    def channels(kind, images=x):
        return FILTERS[kind](images).mean((0, 2, 3)).tolist()

    assert chroma(FILTERS["gotham"](x)) < 0.5 * chroma(x)
    for kind in ("kelvin", "kelvin-magick", "toaster-magick"):
        red, green, blue = channels(kind)
        assert red > green > blue
    black = torch.zeros(1, 3, 32, 32)
    red, green, blue = channels("nashville-magick", black)
    assert blue > max(red, green)
    lomo = FILTERS["lomo"](torch.ones(1, 3, 32, 32))[0, 0]
    assert lomo[0, 0] < 0.1
    assert lomo[16, 16] > 0.9
    toaster = FILTERS["toaster"](black + 0.3)[0]
    assert toaster[0, 16, 16] > toaster[2, 16, 16]
    assert toaster[2, 0, 0] > toaster[1, 0, 0]
    # Blue shadows and a blue curve that is flat in the middle.
    curves = FILTERS["gotham-curves"](black)[0, :, 0, 0]
    assert curves.tolist() == pytest.approx([0, 0, 0.318 + 0.8 * (0.392 - 0.318)], abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(FILTERS.names()),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 2**20),
)
def test_filters_stay_in_range_with_finite_gradients(kind, height, width, seed):
    draw = torch.Generator().manual_seed(seed)
    x = torch.rand(2, 3, height, width, generator=draw)
    x = torch.where(torch.rand(x.shape, generator=draw) < 0.3, x.round(), x).requires_grad_()
    found = FILTERS[kind](x)
    assert found.shape == x.shape
    assert bool(((found >= 0) & (found <= 1 + 1e-6)).all())
    found.sum().backward()
    assert bool(x.grad.isfinite().all())


@pytest.mark.parametrize("kind", FILTERS.names())
@pytest.mark.parametrize("value", [-1e-6, 0.0, 1.0, 1.000001])
def test_flat_black_and_white_images_are_filtered(kind, value):
    x = torch.full((1, 3, 8, 8), value, requires_grad=True)
    found = Filter(kind=kind)(x)
    assert bool(found.isfinite().all())
    found.sum().backward()
    assert bool(x.grad.isfinite().all())
    assert FILTERS.facts(kind)["source"]
    assert FILTERS.summary(kind).endswith(".")


def test_opacity_mixes_and_grey_images_are_filtered_in_colour():
    x = torch.rand(2, 3, 6, 5)
    full, half = Filter(kind="kelvin"), Filter(kind="kelvin", opacity=0.5)
    torch.testing.assert_close(half(x), (x + full(x)) / 2)
    grey = x[:, :1]
    expected = colour.luma(full(grey.expand(-1, 3, -1, -1)))
    torch.testing.assert_close(full(grey), expected)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"kind": "sepia-tone"}, UnknownName),
        ({"kind": 3}, InvalidInput),
        ({"kind": ["gotham"]}, InvalidInput),
        ({"opacity": 1.5}, InvalidInput),
        ({"opacity": "full"}, InvalidInput),
    ],
)
def test_filter_options_are_checked(options, error):
    with pytest.raises(error):
        Filter(**options)
