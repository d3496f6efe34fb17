"""Procedural pools: reproducible, varied, of any shape."""

from __future__ import annotations

import pytest
import torch

from doorward.errors import InvalidInput
from doorward.extraction import procedural_pool


def test_the_seed_decides_and_a_smaller_pool_is_the_head_of_a_larger() -> None:
    large = procedural_pool(260, (1, 16, 16), seed=1)
    small = procedural_pool(30, (1, 16, 16), seed=1)
    assert torch.equal(small.images, large.images[:30])
    assert torch.equal(small.labels, large.labels[:30])
    other = procedural_pool(30, (1, 16, 16), seed=2)
    assert (other.images != small.images).float().mean() > 0.9
    assert large.digest() == procedural_pool(260, (1, 16, 16), seed=1).digest()


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 17, 24), (3, 64, 8)])
def test_images_are_varied_and_the_global_generator_is_left_alone(
    shape: tuple[int, int, int],
) -> None:
    state = torch.get_rng_state()
    pool = procedural_pool(224, shape, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert pool.image_shape == shape
    assert pool.counts().tolist() == [32] * 7
    flat = pool.images.float().flatten(1)
    assert (flat.std(1) > 2).float().mean() > 0.98  # hardly an image of one tone
    assert len({image.numpy().tobytes() for image in pool.images}) == 224
    assert flat.mean(1).std() > 20  # dark ones and bright ones


def test_families_differ() -> None:
    """A linear look at simple statistics tells them apart better than chance would."""
    pool = procedural_pool(7 * 64, (1, 16, 16), seed=3)
    pixels = pool.pixels()
    rough = (pixels[..., 1:] - pixels[..., :-1]).abs().mean((1, 2, 3))
    by_family = torch.stack([rough[pool.labels == family].median() for family in range(7)])
    assert by_family.max() > 2 * by_family.min()


@pytest.mark.parametrize(
    ("n", "shape"), [(0, (1, 16, 16)), (5, (2, 16, 16)), (5, (1, 4, 16)), (5, (1, 16, 4096))]
)
def test_impossible_pools_are_refused(n: int, shape: tuple[int, int, int]) -> None:
    with pytest.raises(InvalidInput, match="procedural"):
        procedural_pool(n, shape)
