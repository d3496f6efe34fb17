"""Entropies of distributions whose entropy is known, and mixture weights by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.errors import InvalidInput
from doorward.scanning.mesa import PatchDistribution, knn_entropy, mixture_weights
from doorward.scanning.mesa.views import mean_trigger, plane, sheet


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dimensions", [1, 3, 6])
def test_the_entropy_of_normal_points(dimensions: int) -> None:
    points = torch.randn(4, 500, dimensions, generator=draw())
    true = dimensions / 2 * math.log(2 * math.pi * math.e)
    assert abs(float(knn_entropy(points).mean()) - true) < 0.06 * dimensions + 0.05


def test_scaling_by_a_adds_d_log_a() -> None:
    points = torch.rand(2, 60, 5, generator=draw())
    grown = knn_entropy(3 * points) - knn_entropy(points)
    assert torch.allclose(grown, torch.full((2,), 5 * math.log(3)), atol=1e-3)


def test_constant_coordinates_do_not_count() -> None:
    points = torch.rand(2, 50, 3, generator=draw())
    padded = torch.cat([points, torch.zeros(2, 50, 4)], 2)
    assert torch.allclose(
        knn_entropy(padded, dimensions=torch.tensor([3, 3])), knn_entropy(points), atol=1e-4
    )


def test_a_collapsed_cloud_is_pushed_apart_and_not_to_infinity() -> None:
    points = (0.5 + 1e-5 * torch.randn(1, 16, 4, generator=draw())).requires_grad_()
    entropy = knn_entropy(points)
    entropy.sum().backward()
    assert float(entropy.detach()) < -15
    assert points.grad is not None
    assert bool(points.grad.isfinite().all())
    assert float(points.grad.abs().sum()) > 0


def test_too_few_points_are_refused() -> None:
    for points, k in [(torch.rand(1, 1, 2), 3), (torch.rand(1, 5, 2), 0)]:
        with pytest.raises(InvalidInput):
            knn_entropy(points, k=k)
    assert knn_entropy(torch.rand(1, 2, 2), k=3).shape == (1,)


def test_weights_are_steps_times_volumes() -> None:
    odds = [0.5 * math.e**2, 0.3 * math.e, 0.1]
    by_hand = [value / sum(odds) for value in odds]
    assert mixture_weights([2.0, 1.0, 0.0], [0.5, 0.8, 0.9]) == pytest.approx(by_hand)
    assert mixture_weights([0.0, 1.0, 2.0], [0.9, 0.8, 0.5]) == pytest.approx(by_hand[::-1])
    even = mixture_weights([2.0, 1.0, 0.0], [0.5, 0.8, 0.9], even=0.3)
    assert even == pytest.approx([0.7 * value + 0.1 for value in by_hand])


def test_restarts_share_the_weight_of_their_level() -> None:
    one = mixture_weights([1.0, 0.0], [0.5, 0.9])
    two = mixture_weights([1.0, 1.0, 0.0, 0.0], [0.5, 0.5, 0.9, 0.9])
    assert two == pytest.approx([one[0] / 2, one[0] / 2, one[1] / 2, one[1] / 2])
    larger, smaller, _ = mixture_weights([2.0, 1.0, 0.0], [0.5, 0.5, 0.9])
    assert larger / smaller == pytest.approx(math.e)


@given(
    st.lists(st.tuples(st.floats(-300, 300), st.floats(0.01, 1)), min_size=1, max_size=8),
    st.floats(0, 1),
)
@settings(max_examples=40, deadline=None)
def test_weights_are_a_distribution(parts: list[tuple[float, float]], even: float) -> None:
    weights = mixture_weights([h for h, _ in parts], [level for _, level in parts], even=even)
    assert sum(weights) == pytest.approx(1)
    assert min(weights) >= even / len(parts) - 1e-12


@pytest.mark.parametrize(
    ("entropies", "levels", "even"),
    [([], [], 0), ([1.0], [0.5, 0.9], 0), ([1.0], [0.0], 0), ([1.0], [1.5], 0), ([1.0], [0.5], 2)],
)
def test_bad_mixtures_are_refused(entropies: list[float], levels: list[float], even: float) -> None:
    with pytest.raises(InvalidInput):
        mixture_weights(entropies, levels, even=even)


def test_the_map_is_a_rotation_of_what_was_drawn() -> None:
    found = PatchDistribution(0, channels=1, sizes=[2, 2], levels=[0.5, 0.9], hidden=8)
    for parameter in found.parameters():
        parameter *= 3
    view = plane(found, 60, draw())
    patches, which = found.sample(60, draw())
    points = patches.flatten(1).double()
    values = torch.linalg.eigvalsh((points - points.mean(0)).T @ (points - points.mean(0)))
    assert torch.allclose(view.coordinates.square().sum(0).double(), values.flip(0)[:2], rtol=1e-4)
    assert view.explained == pytest.approx((values.flip(0)[:2] / values.sum()).tolist())
    assert torch.allclose(view.coordinates.mean(0), torch.zeros(2), atol=1e-5)
    assert view.levels == [[0.5, 0.9][component] for component in which.tolist()]
    assert torch.equal(view.coordinates, plane(found, 60, draw()).coordinates)


def test_the_sheet_frames_the_samples() -> None:
    found = PatchDistribution(0, channels=3, sizes=[2], levels=[0.5])
    pictures, page = found.pictures(6, draw()), sheet(found, 2, 3, draw())
    assert torch.equal(page[:, 1:3, 1:3], pictures[0])
    assert torch.equal(page[:, 4:6, 7:9], pictures[5])
    assert bool((page[:, ::3] == 1).all())
    assert bool((page[:, :, ::3] == 1).all())
    assert torch.allclose(mean_trigger(found, 6, draw()), pictures.mean(0))
    for call in (lambda: sheet(found, 0, 2, draw()), lambda: mean_trigger(found, 0, draw())):
        with pytest.raises(InvalidInput):
            call()
    dot = PatchDistribution(0, channels=1, sizes=[1], levels=[0.5])
    for few, count in [(found, 1), (dot, 5)]:
        with pytest.raises(InvalidInput):
            plane(few, count, draw())
