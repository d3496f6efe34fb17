"""Augmentation: hand-computed crops, flips, squares and turns, and nothing else."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.data import Augment, augment
from doorward.data.augmentation import apply_draws, draw
from doorward.errors import InvalidInput

HALF, LAST = 0.5, 1 - 2**-24  # the largest float32 that torch.rand gives


def numbers(**columns):
    order = ("down", "right", "flip", "row", "column", "angle")
    return torch.tensor([[columns.get(name, HALF) for name in order]])


def byte_images(*shape, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=random)


@pytest.mark.parametrize("down", range(5))
@pytest.mark.parametrize("right", range(5))
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_flip_by_hand(down, right, flip):
    images = byte_images(1, 3, 6, 5)
    draws = numbers(down=(down + 0.5) / 5, right=(right + 0.5) / 5, flip=0.25 if flip else 0.75)
    source = images.flip(3) if flip else images
    expected = F.pad(source, (2, 2, 2, 2))[:, :, down : down + 6, right : right + 5]
    result = apply_draws(images, Augment(pad_crop=2, flip=True), draws)
    assert torch.equal(result, expected.float() / 255)


def test_the_largest_random_number_stays_inside():
    images = byte_images(1, 1, 4, 4)
    result = apply_draws(
        images, Augment(pad_crop=4, cutout=1), numbers(down=LAST, right=LAST, row=LAST)
    )
    assert torch.equal(result, torch.zeros(1, 1, 4, 4))


def test_every_offset_and_both_directions_occur():
    images = torch.arange(1, 10, dtype=torch.uint8).view(1, 1, 3, 3).expand(4000, 1, 3, 3)
    result = augment(images, Augment(pad_crop=1, flip=True), torch.Generator().manual_seed(0))
    seen = {tuple((image * 255).round().int().flatten().tolist()) for image in result}
    assert len(seen) == 18


@pytest.mark.parametrize(("row", "first", "last"), [(0.0, 0, 1), (0.5, 2, 5), (LAST, 5, 7)])
def test_cutout_by_hand(row, first, last):
    images = torch.full((1, 3, 8, 8), 255, dtype=torch.uint8)
    result = apply_draws(images, Augment(cutout=4), numbers(row=row, column=0.5))
    expected = torch.ones(1, 3, 8, 8)
    expected[:, :, first : last + 1, 2:6] = 0
    assert torch.equal(result, expected)


def test_a_quarter_turn_is_rot90():
    images = byte_images(1, 3, 8, 8)
    result = apply_draws(images, Augment(rotate=90.0), numbers(angle=0.0))
    expected = images.float() / 255
    turned = [torch.rot90(expected, k, (2, 3)) for k in (1, 3)]
    assert min(float((result - turn).abs().max()) for turn in turned) < 1e-4
    other = apply_draws(images, Augment(rotate=90.0), numbers(angle=1.0))
    assert torch.allclose(torch.rot90(other, 2, (2, 3)), result, atol=1e-4)


def test_turns_of_non_square_images_do_not_shear():
    images = torch.zeros(1, 1, 9, 17)
    images[:, :, 4, 4:13] = 1  # a bar of 9 pixels through the centre
    result = apply_draws(images, Augment(rotate=90.0), numbers(angle=0.0))
    expected = torch.zeros(1, 1, 9, 17)
    expected[:, :, :, 8] = 1
    assert torch.allclose(result, expected, atol=1e-4)


recipes = st.builds(
    Augment,
    pad_crop=st.integers(0, 5),
    flip=st.booleans(),
    cutout=st.integers(0, 12),
    rotate=st.floats(0, 30),
)


@settings(deadline=None, max_examples=40)
@given(recipes, st.integers(1, 5), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
def test_shape_range_and_input_are_kept(recipe, batch, channels, height, width):
    images = byte_images(batch, channels, height, width)
    copy, floats = images.clone(), images.float() / 255
    float_copy = floats.clone()
    result = augment(images, recipe, torch.Generator().manual_seed(1))
    assert result.shape == images.shape
    assert result.dtype == torch.float32
    assert 0 <= float(result.min()) <= float(result.max()) <= 1
    # Bytes and floats are augmented alike, and the caller's images are not written to.
    assert torch.equal(result, augment(floats, recipe, torch.Generator().manual_seed(1)))
    assert torch.equal(images, copy)
    assert torch.equal(floats, float_copy)


def test_each_image_is_changed_on_its_own():
    images, draws = byte_images(6, 3, 8, 8), draw(6, torch.Generator().manual_seed(0))
    recipe = Augment(pad_crop=2, flip=True, cutout=3, rotate=10.0)
    together = apply_draws(images, recipe, draws)
    apart = [apply_draws(images[i : i + 1], recipe, draws[i : i + 1]) for i in range(6)]
    assert torch.allclose(together, torch.cat(apart), atol=1e-6)


def test_no_augmentation_is_the_plain_image():
    images = byte_images(2, 3, 4, 4)
    assert not Augment.none().active
    assert torch.equal(augment(images, Augment.none(), torch.Generator()), images.float() / 255)


def test_refusals():
    with pytest.raises(InvalidInput, match="shape"):
        augment(torch.zeros(3, 8, 8), Augment(flip=True), torch.Generator())
    for field in ({"pad_crop": -1}, {"rotate": 200.0}, {"cutout": -2}, {"mixup": 1}):
        with pytest.raises(InvalidInput):
            Augment.from_dict(field)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    images, draws = byte_images(64, 3, 32, 32), draw(64, torch.Generator().manual_seed(0))
    exact = Augment(pad_crop=4, flip=True, cutout=8)
    assert torch.equal(
        apply_draws(images.cuda(), exact, draws).cpu(), apply_draws(images, exact, draws)
    )
    turned = Augment(rotate=15.0)
    assert torch.allclose(
        apply_draws(images.cuda(), turned, draws).cpu(),
        apply_draws(images, turned, draws),
        atol=1e-4,
    )
