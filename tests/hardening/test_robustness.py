"""Small disturbances: attacks against what can be computed, and a model without slopes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.hardening import Robustness, natural_backdoors, robustness, success_on
from doorward.hardening.robustness import pgd_images, square_images

BOUND = 0.05


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TwoSided(nn.Module):
    """Linear, two classes, of images of 4x4."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng([]):
            torch.manual_seed(0)
            self.weight = nn.Parameter(torch.randn(16))

    def forward(self, images: Tensor) -> Tensor:
        score = (images.flatten(1) - 0.5) @ self.weight
        return torch.stack([-score, score], 1)


class Rounded(nn.Module):
    """The same answers almost everywhere, and no slope anywhere."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner((images * 64).round() / 64)
        return logits


@pytest.fixture
def two_sided() -> TwoSided:
    return TwoSided().eval()


@pytest.fixture
def images() -> ImageData:
    stored = torch.randint(64, 192, (200, 1, 4, 4), generator=draw(), dtype=torch.uint8)
    with torch.no_grad():
        labels = TwoSided()(stored / 255).argmax(1)
    return ImageData(stored, labels, ("a", "b"))


def test_ascent_reaches_the_optimum_of_a_linear_model(
    two_sided: TwoSided, images: ImageData
) -> None:
    """Every pixel goes to the edge of the bound: the margin falls by 2 bound |w|_1."""
    x, y = images.pixels(), images.labels
    moved = pgd_images(two_sided, x, y, bound=BOUND, steps=10, step_size=BOUND / 2, draw=draw())
    sign = 1 - 2 * y[:, None, None, None].float()
    expected = x + BOUND * sign * two_sided.weight.detach().sign().view(1, 1, 4, 4)
    torch.testing.assert_close(moved, expected)
    assert two_sided.weight.grad is None


def test_random_squares_stay_within_the_bound_and_find_most(
    two_sided: TwoSided, images: ImageData
) -> None:
    x, y = images.pixels(), images.labels
    few = square_images(two_sided, x, y, bound=BOUND, queries=5, draw=draw())
    many = square_images(two_sided, x, y, bound=BOUND, queries=150, draw=draw())
    for moved in (few, many):
        assert float((moved - x).abs().max()) <= BOUND + 1e-6
        assert float(moved.min()) >= 0
        assert float(moved.max()) <= 1
    with torch.no_grad():
        right = [(two_sided(moved).argmax(1) == y).float().mean() for moved in (x, few, many)]
    best = pgd_images(two_sided, x, y, bound=BOUND, steps=10, step_size=BOUND / 2, draw=draw())
    with torch.no_grad():
        least = (two_sided(best).argmax(1) == y).float().mean()
    assert right[0] == 1
    assert right[0] > right[1] > right[2] >= least
    assert right[2] <= least + 0.1


def test_a_model_without_slopes_is_found_out(two_sided: TwoSided, images: ImageData) -> None:
    honest = robustness(two_sided, images, surrogate=two_sided, bound=BOUND, queries=100)
    assert honest.signs_of_masking == []
    assert honest.pgd <= honest.square < honest.clean == 1
    assert honest.pgd_large == 0
    masked = robustness(Rounded(two_sided), images, surrogate=two_sided, bound=BOUND, queries=100)
    assert masked.pgd > 0.9  # it looks robust
    assert len(masked.signs_of_masking) == 3
    assert Robustness.from_dict(masked.to_dict()) == masked
    assert robustness(two_sided, images, images=50, queries=2).images == 50


def test_natural_backdoors_keep_to_their_budget(
    trained: nn.Module, small_digits: ImageData, unseen_digits: ImageData
) -> None:
    quick = {"epochs": 12, "images": 12, "batch_size": 12}
    tight, wide = (
        natural_backdoors(
            trained, unseen_digits, ("additive",), budget=budget, settings=quick, seed=1
        )["additive"]
        for budget in (0.01, 0.5)
    )
    assert wide.worst > tight.worst
    assert wide.target is not None
    assert wide.success[wide.target] == wide.worst
    assert wide.dissimilarity[wide.target] <= 1.1 * 0.5
    with pytest.raises(InvalidInput):
        natural_backdoors(trained, unseen_digits, ("tears",))  # type: ignore[arg-type]


def test_changes_are_tried_on_another_model(trained: nn.Module, unseen_digits: ImageData) -> None:
    from doorward.hardening import Settings, attack_pairs

    settings = Settings(epochs=15, images=12, batch_size=12)
    found = attack_pairs(trained, unseen_digits, [(3, 5), (None, 0)], settings=settings)
    same = success_on(trained, found, unseen_digits)
    # On other images of the same classes than those that were measured on.
    torch.testing.assert_close(same, found.success, atol=0.25, rtol=0)
    constant = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.zeros_(constant[1].weight)
    with torch.no_grad():
        constant[1].bias.copy_(torch.eye(10)[0])
    assert success_on(constant, found, unseen_digits).tolist() == [0.0, 1.0]
