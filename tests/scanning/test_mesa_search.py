"""The search on surfaces that are known: what it reaches, how far it spreads, by which steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.scanning.mesa import Generators, knn_entropy
from doorward.scanning.mesa.placing import Places, coarse_grid
from doorward.scanning.mesa.pressing import Plan, foreign_rows, press
from doorward.scanning.mesa.search import Hunt, Mine, Multiplier, Staircase, active
from doorward.training import Recipe, fit

BLANK = ImageData(
    images=torch.zeros(320, 1, 3, 3, dtype=torch.uint8),  # one epoch: epochs cost time, too
    labels=torch.zeros(320, dtype=torch.int64),
    classes=("nothing", "target"),
    name="blank",
)


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Bump(nn.Module):
    """P(target) = exp(-|x - centre|^2 / (2 * 0.6^2)): all images are nothing but their patch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centre", torch.tensor([0.2, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2, 0.8, 0.2]))

    def forward(self, images: Tensor) -> Tensor:
        away = (images.flatten(1) - self.centre).square().sum(1)
        chance = (-away / (2 * 0.6**2)).exp().clamp(1e-6, 1 - 1e-6)
        return torch.stack([torch.zeros_like(chance), chance.logit()], 1)


def searched(levels: list[float], *, mine: bool = False, **options: Any) -> dict[str, list[float]]:
    """Search the bump; the share of samples that reach the level, their spread, their entropy."""
    count = len(levels)
    plan = Plan([1] * count, [3] * count, levels, ["anywhere"] * count)
    stack = Generators(count, channels=1, size=3, noise=16, hidden=24, draw=draw())
    staircase = Staircase(
        plan, Places(plan, coarse_grid(1)), channels=1, seed=0, images=24, **options
    )
    recipe = Recipe(
        epochs=4, batch_size=8, optimizer="adam", lr=0.01, betas=(0.5, 0.9), divergence=1e9,
        schedule="constant", precision="fp32",
    )  # fmt: skip
    hunt = Hunt(Bump(), stack, Mine(stack, draw(1)) if mine else None)
    fit(hunt, staircase, BLANK, recipe, device="cpu")
    with torch.no_grad():
        made = stack(stack.noise(200, draw(2)))
        chance = Bump()(made.flatten(0, 1)).softmax(1)[:, 1].view(count, 200)
    return {
        "valid": (chance >= torch.tensor(levels)[:, None]).float().mean(1).tolist(),
        "chance": chance.mean(1).tolist(),
        "spread": made.flatten(2).std(1).mean(1).tolist(),
        "entropy": knn_entropy(made.flatten(2)).tolist(),
    }


def test_without_entropy_it_collapses_within_the_set() -> None:
    found = searched([0.9], alpha=0.0)
    assert found["valid"][0] > 0.9
    assert found["spread"][0] < 0.05


def test_under_a_huge_weight_it_leaves_the_set() -> None:
    found = searched([0.9], alpha=10.0, rate=0.0)
    assert found["valid"][0] < 0.1
    assert found["spread"][0] > 0.15


def test_the_constraint_sets_the_weight_and_lower_levels_have_larger_volumes() -> None:
    found = searched([0.5, 0.8, 0.9], alpha=0.1)
    assert min(found["valid"]) > 0.8
    assert found["entropy"][0] > found["entropy"][1] > found["entropy"][2]
    assert min(found["spread"]) > 0.05  # and it did not collapse


def test_mine_spreads_too() -> None:
    still = searched([0.5], alpha=0.0)
    moved = searched([0.5], alpha=0.1, mine=True)
    assert moved["valid"][0] > 0.7
    assert moved["entropy"][0] > still["entropy"][0]


def scene() -> tuple[nn.Module, Tensor, Tensor, Plan, Tensor, Tensor]:
    """A classifier, images, and patches of several sizes and classes for them."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 3))
    plan = Plan([0, 2, 1, 0], [1, 3, 2, 3], [0.9, 0.5, 0.9, 0.8], ["anywhere"] * 4)
    images, patches = torch.rand(7, 2, 6, 6), torch.rand(4, 5, 2, 3, 3)
    rows = torch.randint(7, (4, 5))
    corners, _, _ = Places(plan, coarse_grid(1)).draw(5, (6, 6), draw())
    return model.requires_grad_(False), images, patches, plan, rows, corners


def test_chunks_change_nothing() -> None:
    model, images, patches, plan, rows, corners = scene()
    whole = press(model, images, patches, rows, corners, plan, batch_size=1000, slope=True)
    for batch_size in (1, 3, 10):
        part = press(model, images, patches, rows, corners, plan, batch_size=batch_size, slope=True)
        for one, other in zip(whole, part, strict=True):
            assert torch.allclose(one.float(), other.float(), atol=1e-5)


def test_a_press_is_what_one_image_after_the_other_gives() -> None:
    model, images, patches, plan, rows, corners = scene()
    done = press(model, images, patches, rows, corners, plan, batch_size=4, slope=True)
    patches = patches.clone().requires_grad_()
    for m, size in enumerate(plan.sizes):
        for b in range(5):
            top, left = corners[m, b].tolist()
            stamped = images[rows[m, b]].clone()
            stamped[:, top : top + size, left : left + size] = patches[m, b, :, :size, :size]
            chances = model(stamped[None]).softmax(1)[0]
            hinge = (torch.tensor(plan.levels[m]) / chances[plan.targets[m]]).log().relu()
            hinge.backward()
            assert float(done.hinge[m, b]) == pytest.approx(float(hinge.detach()), abs=1e-5)
            assert float(done.chance[m, b]) == pytest.approx(chances[plan.targets[m]].item())
            assert bool(done.hit[m, b]) == (int(chances.argmax()) == plan.targets[m])
    assert patches.grad is not None
    assert torch.allclose(done.slope, patches.grad, atol=1e-5)
    assert float(done.slope.abs().sum()) > 0
    blind = press(model, images, patches.detach(), rows, corners, plan, batch_size=4, slope=False)
    assert torch.equal(blind.hit, done.hit)
    assert not bool(blind.slope.any())


def test_images_of_the_class_itself_are_never_stamped() -> None:
    labels, targets = torch.tensor([0, 1, 0, 2, 1, 0]), torch.tensor([0, 1, 2])
    rows, usable = foreign_rows(labels, targets, 9, draw())  # more than there are: they repeat
    assert rows.shape == (3, 9)
    assert bool((labels[rows] != targets[:, None]).all())
    assert set(rows[0].tolist()) == {1, 3, 4}
    assert usable.tolist() == [1, 1, 1]
    _, usable = foreign_rows(torch.zeros(4, dtype=torch.int64), torch.tensor([0, 1]), 2, draw())
    assert usable.tolist() == [0, 1]


def test_places_move_to_where_the_loss_is_least() -> None:
    plan = Plan([0, 0], [2, 3], [0.9, 0.9], ["fixed", "anywhere"])
    places = Places(plan, coarse_grid(3))
    corners, number, trying = places.draw(400, (8, 10), draw())
    assert set(map(tuple, corners[0].tolist())) == {(r, c) for r in (0, 3, 6) for c in (0, 4, 8)}
    assert int(corners[1, :, 0].max()) == 5
    assert int(corners[1, :, 1].max()) == 7
    places.learn(number, torch.where(number == 8, 0.1, 3.0))
    assert not bool(trying[1].any())
    _, number, trying = places.draw(400, (8, 10), draw())
    assert float((number[0] == 8)[~trying[0]].float().mean()) > 0.9
    assert set(number[0].tolist()) == set(range(9))  # none is forgotten
    assert places.best([0]) == [(1.0, 1.0)]
    assert places.best([1]) is None
    corners, _, _ = places.draw(5, (8, 10), draw(), settled=True)
    assert corners[0].tolist() == [[6, 8]] * 5
    both = Places.join([places.pick([1]), places.pick([0])])
    assert both.best([1]) == [(1.0, 1.0)]
    assert both.sizes.tolist() == [3, 2]
    places.loss[0, 4] = 0.3  # the centre is nearly as good
    assert places.best([0]) == [(0.5, 0.5), (1.0, 1.0)]


def test_the_weight_falls_where_the_constraint_fails_and_rises_where_there_is_room() -> None:
    multiplier = Multiplier(3, torch.device("cpu"), 0.1, valid=0.9, rate=0.5)
    for _ in range(40):
        multiplier.learn(torch.tensor([0.0, 0.9, 1.0]))
    low, _, high = multiplier.alpha.tolist()
    assert low == pytest.approx(1e-4)
    assert high > 0.2
    assert Multiplier(1, torch.device("cpu"), 0.0, 0.9, 0.5).on is False


def test_pixels_beyond_a_generators_size_do_not_count() -> None:
    patches = torch.ones(2, 1, 1, 3, 3)
    assert active(patches, [2, 3]).sum((1, 2, 3, 4)).tolist() == [4, 9]
