"""The trigger images: fixed bytes, any size, varied pictures."""

import hashlib
import os
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput, UnknownName
from doorward.watermark.fields import DRAWS, FAMILIES, Draws, coordinates, wave
from doorward.watermark.patterns import GENERATORS, generate

SEEDS = [hashlib.sha256(str(i).encode()).digest() for i in range(64)]

# Keys in use depend on every byte of these pictures: never change the digests, add a generator.
GOLDEN = {
    (3, 32, 32): "321e5ed4a0af2b32323e98177f88df36ba6bc9b76529b3a4232ca0cfae7dddec",
    (1, 28, 28): "5c1e6d0463a36e594437d07fab728665b185b8dc7293a966ce8d37233d2edb4f",
    (3, 20, 45): "2c65a39a99c079210c34323e803aeeea06acf9c2dbc69551f9f30d9ff4e042ae",
}


def digest(images: torch.Tensor) -> str:
    return hashlib.sha256(images.numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("shape", GOLDEN, ids=str)
def test_bytes_never_change(shape):
    assert digest(generate(SEEDS, shape, "abstract-v1")) == GOLDEN[shape]


def test_bytes_do_not_depend_on_the_cpu():
    """NumPy without its vector instructions computes the same pictures."""
    code = (
        "import hashlib; from doorward.watermark.patterns import generate;"
        "seeds = [hashlib.sha256(str(i).encode()).digest() for i in range(64)];"
        "print(hashlib.sha256(generate(seeds, (3, 32, 32)).numpy().tobytes()).hexdigest())"
    )
    core = np._core._multiarray_umath
    optional = [name for name in core.__cpu_dispatch__ if core.__cpu_features__.get(name)]
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(optional)}
    run = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == GOLDEN[3, 32, 32]


def test_an_image_depends_on_its_seed_alone():
    together = generate(SEEDS, (3, 16, 16))
    alone = torch.cat([generate([seed], (3, 16, 16)) for seed in SEEDS])
    assert torch.equal(together, alone)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.binary(min_size=32, max_size=32),
    channels=st.sampled_from([1, 3]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
)
def test_every_seed_and_shape_gives_a_picture_of_full_range(seed, channels, height, width):
    images = generate([seed], (channels, height, width))
    assert images.shape == (1, channels, height, width)
    assert images.dtype == torch.uint8
    assert int(images.min()) == 0
    assert int(images.max()) == 255
    assert images.float().std() > 10


def test_pictures_differ_from_each_other():
    flat = generate(SEEDS, (3, 32, 32)).flatten(1).float()
    distance = torch.cdist(flat, flat) / flat.shape[1] ** 0.5
    distance.fill_diagonal_(torch.inf)
    assert distance.min() > 40  # grey levels, root mean square


def test_pictures_are_structured_not_noise():
    """Neighbouring pixels are alike, unlike in noise (where the ratio is about 1.4)."""
    images = generate(SEEDS, (3, 32, 32)).float()
    steps = (images[..., 1:] - images[..., :-1]).flatten(1).std(1)
    assert (steps / images.flatten(1).std(1)).median() < 0.6


def test_a_picture_is_the_same_at_every_size():
    small = generate(SEEDS[:20], (3, 24, 24)).float()
    large = generate(SEEDS[:20], (3, 96, 96)).float()
    shrunk = torch.nn.functional.interpolate(large, size=24, mode="area")
    for one, other in zip(small, shrunk, strict=True):
        assert torch.corrcoef(torch.stack([one.flatten(), other.flatten()]))[0, 1] > 0.75


def test_all_families_are_drawn_and_need_few_numbers():
    x, y = coordinates(8, 8)
    for name in FAMILIES:
        draws = Draws(np.random.default_rng(0).random((2, DRAWS - 5)))
        tone, shade = FAMILIES[name](draws, x, y)
        assert tone.shape == shade.shape == (2, 8, 8), name
        assert np.isfinite(tone).all(), name
    first = {hashlib.shake_256(b"doorward abstract-v1" + seed).digest(1)[0] // 32 for seed in SEEDS}
    assert len(first) == len(FAMILIES)


def test_wave_is_a_sine():
    turns = np.linspace(-3, 3, 1001)
    assert np.abs(wave(turns) - np.sin(2 * np.pi * turns)).max() < 0.0011


def test_a_hundred_images_take_well_below_a_second():
    seeds = [bytes([i]) * 32 for i in range(100)]
    start = time.process_time()
    generate(seeds, (3, 32, 32))
    assert time.process_time() - start < 0.8


@pytest.mark.parametrize(
    ("seeds", "shape", "words"),
    [
        ([b"short"], (3, 32, 32), "seed 0 has 5 bytes"),
        ([bytes(32)], (4, 32, 32), "1 or 3 channels"),
        ([bytes(32)], (3, 7, 32), "7x32"),
        ([bytes(32)], (3, 32, 2000), "8 to 1024"),
        ([bytes(32)], (32, 32), "channels, height, width"),
        ([bytes(32)], (3, 32.0, 32), "channels, height, width"),
    ],
)
def test_bad_input_is_explained(seeds, shape, words):
    with pytest.raises(InvalidInput, match=words):
        generate(seeds, shape)


def test_unknown_generator_lists_the_known():
    with pytest.raises(UnknownName, match="abstract-v1"):
        generate([bytes(32)], (3, 32, 32), "abstract-v0")
    assert GENERATORS.names() == ["abstract-v1"]


def test_no_seeds_give_no_images():
    assert generate([], (1, 8, 8)).shape == (0, 1, 8, 8)
