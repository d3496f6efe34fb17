"""Every registered trigger keeps the contract, at odd sizes, channel counts and dtypes."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData
from doorward.triggers import (
    FILTERS,
    TRIGGERS,
    Additive,
    Blend,
    Composite,
    Corners,
    Filter,
    Frequency,
    LearntNoise,
    LowFrequency,
    MaskedPattern,
    Patch,
    Quantise,
    Reflection,
    Sinusoid,
    Steganographic,
    Strength,
    Style,
    Trigger,
    Warp,
    Waves,
)

VARIANTS = {
    "additive": Additive(),
    "additive-grey": Additive(eps=0.2, height=9, width=5, channels=1, seed=4),
    "patch": Patch(),
    "patch-checkerboard": Patch(size=4, pattern="checkerboard", colour=(1, 0.5, 0), margin=1),
    "patch-noise-random": Patch(size=(2, 3), pattern="noise", position="random", seed=5),
    "patch-given": Patch(pattern=[[0.0, 0.5], [1.0, 0.25]], position=(1, -2), opacity=0.5),
    "blend": Blend(),
    "blend-noise": Blend(alpha=0.1, pattern="noise", seed=4),
    "blend-given": Blend(pattern="given", image=torch.rand(3, 9, 7)),
    "sinusoid": Sinusoid(),
    "sinusoid-vertical": Sinusoid(delta=0.3, frequency=2.5, direction="vertical"),
    "warp": Warp(),
    "warp-strong": Warp(k=6, s=4.0, grid_rescale=1.1, seed=7),
    **{f"filter-{kind}": Filter(kind=kind) for kind in FILTERS},
    "filter-faint": Filter(kind="1977", opacity=0.3),
    "reflection": Reflection(),
    "reflection-ghost": Reflection(kind="ghost", shift=60, seed=2),
    "reflection-focus": Reflection(kind="focus", sigma=20, seed=3),
    "low-frequency": LowFrequency(),
    "low-frequency-cosines": LowFrequency(pattern="cosines", amplitude=0.1, cutoff=6, seed=2),
    "frequency": Frequency(),
    "frequency-strong": Frequency(magnitude=1.0, positions=(0, 3, 7), block=8),
    "quantise": Quantise(),
    "quantise-plain": Quantise(levels=4, dither=False),
    "input-aware": MaskedPattern(width=3, seed=1),
    "input-aware-grey": MaskedPattern(width=2, channels=1),
    "lira": LearntNoise(width=3),
    "lira-strong": LearntNoise(eps=0.5, width=2, channels=1, seed=2),
    "corners": Corners(),
    "corners-faint": Corners(size=2, amplitude=0.2, corners=["top-left", "bottom-right"]),
    "composite": Composite(bank=torch.arange(256).view(4, 1, 8, 8).to(torch.uint8)),
    "steganographic": Steganographic(bits=8, width=4),
    "steganographic-grey": Steganographic(bits=3, width=4, channels=1, budget=0.1, seed=2),
    "waves": Waves(),
    "waves-both": Waves(across=1, down=3, amplitude=0.2),
    "style": Style(width=4),
    "style-grey": Style(alpha=1.0, width=4, depth=1, channels=1, seed=2),
}
SIZES = [(8, 8), (16, 11), (9, 65), (32, 32), (28, 28), (65, 33)]

every = pytest.mark.parametrize("name", VARIANTS)


def images(count, channels, size, dtype=torch.float32, seed=0):
    draw = torch.Generator().manual_seed(seed)
    levels = torch.randint(256, (count, channels, *size), generator=draw)
    return (levels.to(dtype) / 255).requires_grad_(False)


def test_every_registered_trigger_is_tested_and_described():
    assert {type(trigger) for trigger in VARIANTS.values()} == {TRIGGERS[n] for n in TRIGGERS}
    for name in TRIGGERS:
        assert TRIGGERS.facts(name)["paper"]
        assert TRIGGERS.summary(name)


@every
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_shape_range_and_determinism(name, channels, size):
    trigger = VARIANTS[name]
    for dtype in (torch.float32, torch.float64):
        clean = images(3, channels, size, dtype)
        before = clean.clone()
        marked = trigger(clean)
        assert marked.shape == clean.shape
        assert marked.dtype == dtype
        assert marked.min() >= 0
        assert marked.max() <= 1
        assert torch.equal(clean, before), "the input was changed in place"
        assert not torch.equal(marked, clean)
        assert torch.equal(trigger(clean), marked)
        # Each image is marked by itself: the batch and its order do not matter, but for the
        # rounding of convolutions, which a steep mask multiplies.
        alone = torch.cat([trigger(clean[i : i + 1]) for i in (2, 0, 1)])
        torch.testing.assert_close(alone, marked[[2, 0, 1]], atol=1e-5, rtol=0)
    single, double = (trigger(images(3, channels, size, d)) for d in (torch.float32, torch.float64))
    torch.testing.assert_close(single.double(), double, atol=1e-4, rtol=0)


@every
def test_no_images_give_no_images(name):
    assert VARIANTS[name](torch.zeros(0, 3, 16, 16)).shape == (0, 3, 16, 16)


@every
def test_configuration_round_trip(name):
    trigger = VARIANTS[name]
    config = json.loads(json.dumps(trigger.config()))
    again = type(trigger).from_config(config)
    again.load_state_dict(trigger.state_dict())
    clean = images(4, 3, (16, 16))
    assert torch.equal(again(clean), trigger(clean))
    assert again.config() == trigger.config()
    assert torch.equal(copy.deepcopy(trigger)(clean), trigger(clean))
    assert next(iter(config)) in repr(trigger)


@every
def test_gradients_reach_the_images(name):
    trigger = VARIANTS[name]
    clean = 0.25 + images(2, 3, (9, 13), torch.float64) / 2  # away from the clamp
    with torch.inference_mode():
        trigger(clean)  # what is kept from here must not break the backward pass
    clean.requires_grad_(True)
    trigger(clean).sum().backward()
    assert torch.isfinite(clean.grad).all()
    assert clean.grad.abs().sum() > 0


# Rounding passes gradients on that are not those of rounding; the others claim true ones.
TRUE_GRADIENTS = [
    "patch-given",
    "blend",
    "sinusoid",
    "warp",
    "warp-strong",
    *(name for name in VARIANTS if name.startswith(("filter", "reflection"))),
    "low-frequency",
    "frequency",
    "corners",
    "composite",
    "waves",
]


@pytest.mark.parametrize("name", TRUE_GRADIENTS)
def test_gradients_are_right(name):
    clean = (0.3 + 0.4 * torch.rand(1, 1, 8, 9, dtype=torch.float64)).requires_grad_(True)
    assert torch.autograd.gradcheck(VARIANTS[name], (clean,))


@every
def test_saved_and_loaded_as_it_was(name, tmp_path):
    trigger = VARIANTS[name]
    trigger.save(tmp_path / "t")
    again = Trigger.load(tmp_path / "t")
    clean = images(4, 3, (16, 16))
    assert type(again) is type(trigger)
    assert torch.equal(again(clean), trigger(clean))
    assert sorted(p.name for p in (tmp_path / "t").iterdir()) == [
        "trigger.json",
        "trigger.safetensors",
    ]


def _edit_json(folder):
    path = folder / "trigger.json"
    content = json.loads(path.read_text())
    content["trigger"]["alpha"] = 0.9
    path.write_text(json.dumps(content))


def _flip_last_byte(folder):
    path = folder / "trigger.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


def _truncate(folder):
    path = folder / "trigger.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (_edit_json, IntegrityError),
        (_flip_last_byte, IntegrityError),
        (_truncate, IntegrityError),
        (lambda f: (f / "trigger.json").write_text("{"), BadFile),
        (lambda f: (f / "trigger.json").write_text("[]"), BadFile),
        (lambda f: (f / "trigger.json").write_text('{"schema": "other"}'), BadFile),
        (lambda f: (f / "trigger.json").unlink(), MissingData),
        (lambda f: (f / "trigger.safetensors").unlink(), MissingData),
    ],
)
def test_damaged_folders_are_refused(damage, error, tmp_path):
    VARIANTS["blend-given"].save(tmp_path / "t")
    damage(tmp_path / "t")
    with pytest.raises(error):
        Trigger.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(3, 16, 16), "add the batch axis|Add the batch axis"),
        (torch.zeros(1, 2, 16, 16), "C = 1 or 3"),
        (torch.zeros(1, 16, 16, 3), "C = 1 or 3"),
        (torch.zeros(1, 3, 0, 16), "empty"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "torch.uint8"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.float16), "torch.float16"),
        (torch.full((1, 3, 16, 16), 255.0), "reach from 255 to 255"),
        (torch.full((1, 3, 16, 16), -0.5), "normalisation"),
        (torch.full((1, 3, 16, 16), float("nan")), "nan"),
        ([[0.0]], "images are list"),
    ],
)
@every
def test_what_is_no_image_is_refused(name, wrong, message):
    with pytest.raises(InvalidInput, match=message):
        VARIANTS[name](wrong)


@pytest.mark.parametrize("kind", list(TRIGGERS))
def test_unknown_options_are_refused(kind):
    with pytest.raises(InvalidInput, match="colour_of_the_sky"):
        TRIGGERS[kind].from_config({"colour_of_the_sky": 1})


@every
def test_strength_is_sane(name):
    strength = VARIANTS[name].strength(images(8, 3, (32, 32)))
    assert strength.l2 > 0
    assert 0 < strength.linf <= 1
    assert 0 < strength.changed <= 1
    assert strength.psnr > 0
    assert strength.ssim < 1
    assert Strength.from_dict(json.loads(json.dumps(strength.to_dict()))) == strength


def test_strength_by_hand():
    # One white 2x2 patch on black 4x4: 4 of 16 pixels change by 1, mean square 1/4.
    strength = Patch(size=2).strength(torch.zeros(5, 1, 4, 4))
    assert (strength.l2, strength.linf, strength.changed) == (2.0, 1.0, 0.25)
    assert strength.psnr == pytest.approx(6.0206, abs=1e-4)
    nothing = Blend(alpha=0.0).strength(torch.zeros(2, 1, 8, 8))
    assert (nothing.l2, nothing.linf, nothing.changed, nothing.psnr) == (0, 0, 0, None)
    assert nothing.ssim == pytest.approx(1)
    with pytest.raises(InvalidInput, match="no images"):
        Patch().strength(torch.zeros(0, 1, 8, 8))


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(sorted(VARIANTS)),
    height=st.integers(6, 70),
    width=st.integers(6, 70),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**20),
)
def test_any_size_works(name, height, width, channels, seed):
    assume(not (name == "sinusoid" and width in (6, 12)))  # six waves vanish there: refused
    assume(not (name == "waves" and width < 8))  # four waves need two pixels each: refused
    clean = images(2, channels, (height, width), seed=seed)
    marked = VARIANTS[name](clean)
    assert marked.shape == clean.shape
    assert bool(((marked >= 0) & (marked <= 1)).all())


def test_other_seeds_other_triggers():
    clean = images(1, 3, (16, 16))
    for build in (
        lambda seed: Blend(seed=seed),
        lambda seed: Blend(seed=seed, pattern="noise"),
        lambda seed: Warp(seed=seed),
        lambda seed: Patch(seed=seed, pattern="noise"),
        lambda seed: Reflection(seed=seed),
        lambda seed: LowFrequency(seed=seed),
        lambda seed: Steganographic(bits=8, width=4, seed=seed),
        lambda seed: Style(width=4, seed=seed),
        lambda seed: MaskedPattern(width=2, seed=seed),
        lambda seed: LearntNoise(width=2, seed=seed),
        lambda seed: LowFrequency(seed=seed, pattern="cosines"),
    ):
        assert not torch.equal(build(0)(clean), build(1)(clean))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    for trigger in VARIANTS.values():
        type(trigger).from_config(trigger.config())(images(1, 1, (13, 17)))
    assert torch.equal(torch.rand(3), expected)
