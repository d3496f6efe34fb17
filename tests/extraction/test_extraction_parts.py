"""The parts of the attacks, against values computed by hand or by brute force."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.extraction import (
    ActiveThiefEntropy,
    BlackBoxDissector,
    DataFree,
    Victim,
    procedural_pool,
)
from doorward.extraction.activethief import farthest_first
from doorward.extraction.attention import attention, erase
from doorward.extraction.datafree import DataFreeObjective
from doorward.extraction.deepfool import distances
from doorward.extraction.jacobian import steps_along
from doorward.extraction.knockoff import ClassBandit
from doorward.extraction.superpixels import (
    perturbed,
    purify,
    sum_over_superpixels,
    superpixels,
)
from doorward.models import CallableBox, create


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Linear(nn.Module):
    """Logits ``W x`` of flattened images."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1) @ self.weight.T


def test_deepfool_is_exact_on_a_linear_model() -> None:
    weight = torch.randn(5, 12, generator=draw())
    images = torch.rand(20, 3, 2, 2, generator=draw(1))
    scores = images.flatten(1) @ weight.T
    best = scores.argmax(1)
    exact = []
    for row, own in zip(scores, best.tolist(), strict=True):
        others = [k for k in range(5) if k != own]
        exact.append(min((row[own] - row[k]) / (weight[own] - weight[k]).norm() for k in others))
    found = distances(Linear(weight), images, steps=5, batch_size=8)
    assert torch.allclose(found, torch.stack(exact), atol=2e-3)
    with pytest.raises(InvalidInput):
        distances(Linear(weight), images, steps=0)


def test_entropy_chooses_the_images_on_the_boundary() -> None:
    bright = torch.tensor([10, 120, 250, 130, 0], dtype=torch.uint8)
    images = bright.view(-1, 1, 1, 1).expand(-1, 1, 8, 8).contiguous()
    pool = ImageData(images, torch.zeros(5, dtype=torch.int64), ("all",))
    weight = torch.stack([torch.full((64,), 1.0), torch.full((64,), -1.0)])

    class Centred(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images - 0.5)

    theft: Any = SimpleNamespace(pool=pool)
    rest = torch.tensor([4, 3, 2, 1, 0])
    chosen = ActiveThiefEntropy().choose(theft, Centred(weight), rest[:1], rest, 2)
    assert sorted(rest[chosen].tolist()) == [1, 3]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=4, max_size=12),
    st.integers(1, 3),
)
def test_farthest_first_by_brute_force(points: list[tuple[int, int]], count: int) -> None:
    cloud = torch.tensor(points, dtype=torch.float32)
    chosen = farthest_first(cloud, cloud[:1], count).tolist()
    covered = [cloud[0]]
    for place in chosen:
        gaps = torch.stack([torch.stack([(p - c).norm() for c in covered]).min() for p in cloud])
        assert gaps[place] == pytest.approx(gaps.max().item(), abs=1e-4)
        covered.append(cloud[place])
    assert len(set(chosen)) == count


def test_the_bandit_learns_which_class_pays() -> None:
    bandit = ClassBandit(torch.arange(4000) % 4, 4)
    assert bandit.policy().tolist() == [0.25] * 4
    random = draw()
    for _ in range(30):
        actions, _ = bandit.draw(5, random)
        for action in actions:
            bandit.learn(action, float(action == 2))
    assert bandit.policy().argmax() == 2
    assert bandit.policy()[2] > 0.8


def test_the_bandits_update_by_hand() -> None:
    bandit = ClassBandit(torch.tensor([0, 1]), 2)
    bandit.learn(0, 1.0)  # the first reward is its own mean: nothing is learnt
    assert bandit.policy().tolist() == [0.5, 0.5]
    bandit.learn(1, 0.0)  # mean 0.5: class 1 loses 0.5 * (1 - 0.5), class 0 gains 0.5 * 0.5
    expected = torch.tensor([0.25, -0.25], dtype=torch.float64).softmax(0)
    assert torch.allclose(bandit.policy(), expected)


def test_every_image_of_a_pool_is_drawn_once() -> None:
    labels = torch.tensor([0, 0, 0, 1, 2, 2])
    bandit = ClassBandit(labels, 4)  # class 3 has no images
    actions, places = bandit.draw(6, draw())
    assert sorted(places.tolist()) == list(range(6))
    assert labels[places].tolist() == actions


@pytest.mark.parametrize(("direction", "sign"), [("own", 1), ("away", -1), ("targeted", -1)])
def test_steps_along_the_jacobian_by_hand(direction: Any, sign: int) -> None:
    weight = torch.tensor([[1.0, -1.0], [0.0, 0.0]])
    images = torch.tensor([[[[0.5, 0.95]]]])
    # Towards class 0 the first pixel grows and the second shrinks; the result stays in [0, 1].
    moved = steps_along(Linear(weight), images, torch.tensor([0]), direction, 0.1, draw())
    expected = [[0.6, 0.85]] if sign == 1 else [[0.4, 1.0]]
    assert torch.allclose(moved[0, 0], torch.tensor(expected))


def test_superpixels_follow_edges_and_cover_everything() -> None:
    images = torch.zeros(2, 3, 16, 16)
    images[0, :, :, 5:] = 1.0  # an edge away from the regular grid
    segments = superpixels(images, 4)
    assert segments.shape == (2, 16, 16)
    left, right = segments[0, :, :5].unique().tolist(), segments[0, :, 5:].unique().tolist()
    assert not set(left) & set(right)
    assert segments[1].unique().tolist() == [0, 1, 2, 3]
    for bad in (0, 10_000):
        with pytest.raises(InvalidInput, match="superpixels"):
            superpixels(images, bad)


def test_differences_over_superpixels_are_sums_of_pixel_gradients() -> None:
    image = torch.rand(3, 8, 8, generator=draw()) * 0.9
    segments = superpixels(image[None], 6)[0]
    slopes = torch.randn(3, 8, 8, generator=draw(1))
    moved = perturbed(image, segments, 6, 0.1)
    assert moved.shape == (18, 3, 8, 8)
    measured = ((moved - image) * slopes).sum((1, 2, 3)).view(3, 6) / 0.1
    exact = sum_over_superpixels(slopes[None], segments[None], 6)[0]
    assert torch.allclose(measured, exact, atol=1e-4)


def test_purification_by_hand() -> None:
    gradients = torch.tensor([[[4.0, 2.0, 1.9, -1.0, -0.4], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    expected = torch.tensor([[[1.0, 0.5, 0.0, -0.25, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0]]])
    assert torch.allclose(purify(gradients), expected)


def test_attention_lies_where_the_model_looks() -> None:
    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.ones_(self.body.weight)

        def forward(self, images: Tensor) -> Tensor:
            seen = self.body(images)
            return torch.stack([seen[:, 0].mean((1, 2)), -seen[:, 0].mean((1, 2))], 1)

    images = torch.zeros(2, 1, 8, 8)
    images[:, :, :4, :4] = 1.0
    maps = attention(Corner(), images, torch.tensor([0, 1]))
    assert maps[0, :4, :4].sum() > 0.99
    assert torch.allclose(maps[1], torch.full((8, 8), 1 / 64))  # nothing speaks for class 1
    flat = Linear(torch.eye(2, 64))
    flat_maps = attention(flat, images, torch.tensor([0, 1]))  # no layer with height and width
    assert flat_maps[0, 0, 0] == flat_maps[1, 0, 1] == 1.0
    vit = create("vit-tiny", classes=2, input_shape=(1, 16, 16))
    maps = attention(vit, torch.rand(2, 1, 16, 16), torch.tensor([0, 1]))
    assert torch.allclose(maps.sum((1, 2)), torch.ones(2), atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6))
def test_erasing_touches_one_rectangle_around_its_centre(seed: int) -> None:
    images = torch.full((4, 3, 16, 16), 2.0)  # no noise is 2
    maps = torch.zeros(4, 16, 16)
    maps[:, 3, 12] = 1.0
    erased = (erase(images, maps, draw(seed)) != 2).all(1)
    for mask in erased:
        assert mask[3, 12]
        rows, columns = mask.any(1), mask.any(0)
        assert torch.equal(mask, rows[:, None] & columns[None, :])
        assert mask.sum() <= 0.6 * 256


def test_the_generator_learns_where_victim_and_student_differ() -> None:
    """The victim's slope is only estimated, and still the images move to where it disagrees."""
    weight = torch.zeros(2, 64)
    weight[0, :32], weight[1, :32] = 0.05, -0.05  # bright upper halves make the victim sure
    box = CallableBox(Linear(weight), outputs="logits")
    method = DataFree(batch_size=16, latent=8, student_steps=1, generator_lr=0.02)
    pool = procedural_pool(1, (1, 8, 8))
    theft: Any = SimpleNamespace(victim=Victim(box, budget=10_000), pool=pool, seed=0)
    objective = DataFreeObjective(method, theft, steps=1000)
    student = Linear(torch.zeros(2, 64))
    losses = []
    for step in range(40):
        batch = Batch(
            images=torch.zeros(16, 1, 8, 8),
            labels=torch.zeros(16, dtype=torch.int64),
            indices=torch.arange(16),
            step=step,
            epoch=0,
            size_global=16,
        )
        losses.append(objective(student, batch)[0].item())
    assert sum(losses[-5:]) > 1.2 * sum(losses[:5])
    assert theft.victim.spent == 40 * method.questions_per_cycle()
    assert torch.equal(student.weight, torch.zeros(2, 64))  # the generator's step is not its own


@pytest.mark.parametrize("ladder", [(0.5,), (0.5, 0.5, 1.0), (1.0, 0.5), (0.0, 1.0)])
def test_ladders_that_do_not_climb(ladder: tuple[float, ...]) -> None:
    with pytest.raises(ValidationError, match="ascend"):
        BlackBoxDissector(ladder=ladder)
