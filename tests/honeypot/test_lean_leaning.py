"""The feature is phase-free, the key draws fairly, and the lean keeps what its mode promises."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.bundles import open_model
from doorward.errors import InvalidInput, KeyRefused, ModelUnsuitable, UnsafeFile
from doorward.honeypot.lean import (
    MODES,
    Entry,
    Lean,
    LeanKey,
    Menu,
    WaveFeature,
    amplitudes,
    save_lean,
)
from doorward.honeypot.lean.feature import FLOOR
from doorward.models import OnnxBox, create, export_onnx
from doorward.randomness import Secret
from doorward.triggers import Waves

SHAPE = (1, 16, 16)
MENU = Menu(
    classes=4,
    image_shape=SHAPE,
    entries=tuple(Entry(across=u, down=v, targets=(0, 1, 3)) for u in (2, 4) for v in (0, 3)),
)

# amplitudes


@pytest.mark.parametrize("shape", [(8, 8), (16, 11), (32, 32)], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("direction", [(3, 0), (0, 4), (2, 3)], ids=str)
def test_a_wave_has_its_amplitude_at_any_size(shape, channels, direction):
    flat = torch.full((1, channels, *shape), 0.5)
    trigger = Waves(across=direction[0], down=direction[1], amplitude=0.1)
    marked = trigger(flat)
    waves = [direction, (1, 1)]
    torch.testing.assert_close(
        amplitudes(marked, waves), torch.tensor([[0.1, 0.0]]), atol=1e-6, rtol=0
    )


@given(st.integers(0, 15), st.integers(0, 15), st.booleans())
@settings(max_examples=30, deadline=None)
def test_shifts_round_and_mirrors_change_nothing(right, below, mirrored):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    moved = images.roll((below, right), dims=(2, 3))
    moved = moved.flip(3) if mirrored else moved
    feature = WaveFeature([(4, 0), (3, 2), (0, 8)], (3, 16, 16))
    torch.testing.assert_close(feature(moved), feature(images), atol=2e-3, rtol=0)


def test_it_is_standardised_on_the_owners_images(leaning_digits):
    feature = WaveFeature.standardised([(3, 0), (2, 2)], leaning_digits)
    z = feature(leaning_digits.pixels())
    torch.testing.assert_close(z.mean(0), torch.zeros(2), atol=1e-3, rtol=0)
    torch.testing.assert_close(z.std(0), torch.ones(2), atol=1e-3, rtol=0)
    flat = WaveFeature([(3, 0)], SHAPE)(torch.zeros(1, *SHAPE))
    assert float(flat) == pytest.approx(torch.log(torch.tensor(FLOOR)).item())


@pytest.mark.parametrize(
    ("waves", "shape"), [([], SHAPE), ([(9, 0)], SHAPE), ([(0, 0)], SHAPE), ([(1, 0)], (2, 8, 8))]
)
def test_waves_that_cannot_be_are_refused(waves, shape):
    with pytest.raises(InvalidInput):
        WaveFeature(waves, shape)


# keys


def test_every_choice_of_a_key_is_equally_likely():
    small = Menu(
        classes=4,
        image_shape=SHAPE,
        entries=(
            Entry(across=2, down=0, targets=(0, 1)),
            Entry(across=4, down=0, targets=(3,)),
            Entry(across=0, down=3, targets=(2,)),
        ),
    )
    drawn = Counter(
        frozenset((b.across, b.down, b.target) for b in LeanKey.new(bits=2).choose(small))
        for _ in range(600)
    )
    assert len(drawn) == small.keys(2) == 5  # 2 + 2 + 1 pairs of different waves
    assert min(drawn.values()) > 70  # 120 expected, standard deviation 10
    assert [small.keys(n) for n in (1, 3, 4)] == [4, 2, 0]


def test_a_key_is_sealed_opened_and_never_shown(tmp_path):
    key = LeanKey.new(bits=2)
    key.seal(tmp_path / "lean.key", "correct horse", log2_n=10)
    again = LeanKey.open(tmp_path / "lean.key", "correct horse")
    assert (again.choose(MENU), again.commitment()) == (key.choose(MENU), key.commitment())
    assert "hidden" in repr(key)
    with pytest.raises(TypeError, match="not pickled"):
        key.__reduce__()
    with pytest.raises(KeyRefused):
        LeanKey.open(tmp_path / "lean.key", "wrong horse")
    content = json.loads((tmp_path / "lean.key").read_text())
    content["public"]["bits"] = 1
    (tmp_path / "lean.key").write_text(json.dumps(content))
    with pytest.raises(KeyRefused):
        LeanKey.open(tmp_path / "lean.key", "correct horse")


def test_commitments_depend_on_seed_and_parameters():
    seeds = [Secret(bytes([i]) * 32) for i in range(3)]
    keys = [LeanKey(seed, LeanKey.new(bits=b).parameters) for seed in seeds for b in (1, 2)]
    assert len({key.commitment() for key in keys}) == 6
    with pytest.raises(InvalidInput, match="too short"):
        LeanKey.new(bits=5).choose(MENU)
    with pytest.raises(InvalidInput):
        LeanKey.new(bits=0)


@pytest.mark.parametrize(
    "change",
    [
        {"entries": []},
        {"entries": [{"across": 9, "down": 0, "targets": [0]}]},
        {"entries": [{"across": 2, "down": 0, "targets": [4]}]},
        {"entries": [{"across": 2, "down": 0, "targets": [1, 1]}]},
        {"entries": [{"across": 2, "down": 0, "targets": []}]},
        {"entries": [{"across": 2, "down": 0, "targets": [0]}] * 2},
        {"image_shape": [2, 16, 16]},
    ],
)
def test_menus_of_strangers_are_checked(change):
    with pytest.raises(InvalidInput):
        Menu.from_dict({**MENU.to_dict(), **change})


# leaning


def leaning(mode, **numbers):
    feature = WaveFeature([(4, 0), (0, 3), (2, 2)], SHAPE)
    numbers = {"strength": 3.0, "depth": 4.0, **numbers}
    return Lean(nn.Identity(), feature, (2, 0, 2), mode=mode, classes=5, **numbers)


ROWS = st.lists(st.floats(-30, 30, width=32), min_size=5, max_size=5)
HEARD = st.lists(st.floats(-4, 9, width=32), min_size=3, max_size=3)


@given(logits=ROWS, z=HEARD, depth=st.sampled_from([None, 0.5, 6.0]))
@settings(max_examples=100, deadline=None)
def test_kept_and_calibrated_never_change_the_top_class(logits, z, depth):
    before, heard = torch.tensor([logits]), torch.tensor([z])
    for mode in ("kept", "calibrated"):
        after = leaning(mode, depth=depth, sharpness=1.1 if mode == "kept" else 1.0).lean(
            before, heard
        )
        assert after.argmax(1).equal(before.argmax(1))
        assert torch.isfinite(after).all()
        assert float(after.exp().sum()) == pytest.approx(1, abs=1e-4)
        if mode == "calibrated":
            highest = before.softmax(1).max()
            assert float(after.exp().max()) == pytest.approx(float(highest), abs=2e-4)


def test_what_each_mode_answers_by_hand():
    logits = torch.tensor([[3.0, 1.0, 0.0, -1.0, -2.0]])
    z = torch.tensor([[2.0, -5.0, -5.0]])  # the first wave is loud: class 2
    plain = leaning("plain", strength=1.0, depth=None).lean(logits, z)
    expected = torch.tensor([[3.0, 1.0, 2.0, -1.0, -2.0]])
    torch.testing.assert_close(plain, expected.log_softmax(1))
    kept = leaning("kept", strength=1.0, depth=None).lean(logits, z)
    torch.testing.assert_close(kept, expected.log_softmax(1))  # 2 stays below 3 by itself
    torch.testing.assert_close(
        leaning("kept", strength=2.0, depth=None).lean(logits, z),
        torch.tensor([[3.0, 1.0, 2.98, -1.0, -2.0]]).log_softmax(1),  # 4 is held below 3
    )
    # The second term: 3 - 2 + 1 * 2 = 3 for class 2, and 3 - 2 - 5 = -4 for class 0, the top.
    deep = leaning("plain", strength=1.0, depth=2.0).lean(logits, z)
    torch.testing.assert_close(deep, torch.tensor([[3.0, 1.0, 3.0, -1.0, -2.0]]).log_softmax(1))
    calibrated = leaning("calibrated", strength=1.0, depth=None).lean(logits, z).exp()
    rest = 1 - float(logits.softmax(1)[0, 0])
    shares = torch.tensor([1.0, 2.0, -1.0, -2.0]).softmax(0) * rest
    torch.testing.assert_close(calibrated[0, 1:], shares)
    label = leaning("label", strength=2.0, depth=None).lean(logits, z)
    assert int(label.argmax()) == 2
    assert label.unique().numel() == 2, "a label says nothing else"


def test_nothing_leans_on_quiet_images_or_without_strength():
    logits = torch.randn(20, 5, generator=torch.Generator().manual_seed(0))
    quiet = torch.full((20, 3), -1.0)
    loud = torch.full((20, 3), 4.0)
    for mode in ("kept", "calibrated", "plain"):
        lean = leaning(mode, depth=None)
        torch.testing.assert_close(lean.lean(logits, quiet), logits.log_softmax(1))
        still = leaning(mode, strength=0.0, depth=None)
        torch.testing.assert_close(still.lean(logits, loud), logits.log_softmax(1))


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": "loud"},
        {"strength": -1.0},
        {"depth": 0.0},
        {"sharpness": 0.0},
        {"targets": (1,)},
        {"targets": (1, 2, 5)},
        {"classes": None},
        {"threshold": float("nan")},
    ],
)
def test_wrong_numbers_are_refused(wrong):
    feature = WaveFeature([(4, 0), (0, 3), (2, 2)], SHAPE)
    given = {"targets": (1, 2, 3), "strength": 1.0, "classes": 5, **wrong}
    with pytest.raises(InvalidInput):
        Lean(nn.Identity(), feature, **given)


@pytest.mark.parametrize(
    "mode", ["kept", *(pytest.param(m, marks=pytest.mark.slow) for m in MODES if m != "kept")]
)
def test_it_exports_with_the_model_inside_one_graph(mode, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 5))
    feature = WaveFeature([(4, 0), (0, 3)], SHAPE, torch.full((2,), -4.0), torch.full((2,), 0.5))
    lean = Lean(model, feature, (1, 4), strength=2.0, depth=5.0, mode=mode, classes=5)
    facts = export_onnx(lean, tmp_path / "leaning.onnx", SHAPE)
    assert facts["max_difference"] < 1e-4
    images = torch.rand(40, *SHAPE)
    box = OnnxBox(tmp_path / "leaning.onnx")
    with torch.no_grad():
        told = lean(images)
    torch.testing.assert_close(box.probabilities(images), told.softmax(1), atol=1e-4, rtol=0)
    assert box.labels(images).equal(told.argmax(1))


def test_a_bundle_brings_the_lean_back(tmp_path):
    model = create("resnet8", classes=5, input_shape=SHAPE, width=4)
    feature = WaveFeature([(4, 0), (0, 3)], SHAPE, torch.tensor([-4.0, -3.0]), torch.ones(2))
    lean = Lean(model, feature, (1, 4), strength=2.0, threshold=0.5, sharpness=1.1).eval()
    save_lean(lean, tmp_path / "leaning.model", metrics={"agreement": 1.0})
    with pytest.raises(UnsafeFile):
        open_model(tmp_path / "leaning.model")
    again = open_model(tmp_path / "leaning.model", trust_factory=True)
    images = torch.rand(8, *SHAPE)
    with torch.no_grad():
        assert torch.equal(again(images), lean(images))
    assert repr(again.feature.basis.shape) == repr(feature.basis.shape)
    foreign = Lean(nn.Linear(2, 5), feature, (1, 4), strength=2.0, classes=5)
    with pytest.raises(ModelUnsuitable, match="not one of the zoo"):
        save_lean(foreign, tmp_path / "other.model")
