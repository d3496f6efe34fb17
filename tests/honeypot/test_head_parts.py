"""The parts of the honeypot head: patch, disturbances, the direction and how far it may go."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.honeypot.head import Disturbance, Place, momentum_step, search
from doorward.honeypot.head.disturbing import jpeg
from doorward.honeypot.head.solving import Problem, loudest
from doorward.honeypot.lean import Cost, LeanBudget


@settings(deadline=None)
@given(
    st.lists(st.floats(-0.3, 0.3), min_size=4, max_size=4),
    st.lists(st.floats(-5, 5), min_size=4, max_size=4),
    st.floats(0, 0.99),
)
def test_the_contrast_stays_within_its_bound(start, slope, alpha):
    contrast = torch.tensor(start)
    for _ in range(3):
        contrast = momentum_step(contrast, torch.tensor(slope), alpha=alpha, epsilon=0.3)
        assert float(contrast.abs().max()) <= 0.3 + 1e-6


def test_a_patch_replaces_and_touches_nothing_else():
    place = Place(side=2, top=1, left=3)
    images = torch.rand(3, 1, 6, 6)
    stamped = place.stamp(images, torch.full((1, 2, 2), 0.25))
    outside = torch.ones(6, 6, dtype=torch.bool)
    outside[1:3, 3:5] = False
    assert (stamped[:, 0, 1:3, 3:5] == 0.25).all()
    assert stamped[:, 0, outside].equal(images[:, 0, outside])
    far = place.stamp(images, torch.zeros(1, 2, 2), down=50, right=-50)  # stays in the image
    assert (far[:, 0, 4:, :2] == 0).all()


def test_the_trigger_is_what_the_search_stamps():
    place = Place.corner((3, 32, 32))
    assert place == Place(side=6, top=26, left=26)
    contrast = torch.rand(3, 6, 6) - 0.5
    images = torch.rand(2, 3, 32, 32)
    difference = place.trigger(contrast)(images) - place.stamp(images, contrast + 0.5)
    assert float(difference.abs().max()) <= 0.5 / 255 + 1e-6
    with pytest.raises(InvalidInput, match="does not fit"):
        Place.corner((1, 8, 8), side=8)
    assert Place.corner((3, 224, 224)).side == 28


def test_a_search_goes_downhill_to_its_bound():
    """With the loss ``-sum of the patch``, every pixel rises: 1/2 - 1/2 * 0.9^k below white."""
    source = ImageData(torch.zeros(5, 1, 6, 6, dtype=torch.uint8), torch.zeros(5).long(), ("a",))
    place = Place(side=2, top=0, left=0)
    found = search(
        lambda stamped, rows: -stamped.sum(), source, place, torch.zeros(1, 2, 2), updates=7,
        batch_size=2,
    )  # fmt: skip
    assert torch.allclose(found, torch.full_like(found, 0.5 * (1 - 0.9**7)))


def test_disturbances_leave_gradients_and_draw_by_their_generator():
    images, patch = torch.rand(2, 3, 17, 17), torch.rand(3, 4, 4, requires_grad=True)
    place = Place(side=4, top=13, left=13)
    disturb = Disturbance(shift=2, blur=1.0, jpeg=1.0)

    def once(seed):
        return disturb.apply(images, patch, place.stamp, torch.Generator().manual_seed(seed))

    first = once(0)
    assert first.equal(once(0))
    assert not first.equal(once(1))
    (slope,) = torch.autograd.grad(first.sum(), patch)
    assert float(slope.abs().min()) > 0
    still = Disturbance(shift=0, scale=0.0, blur=0.0, jpeg=0.0)
    assert still.apply(images, patch, place.stamp, torch.Generator()).equal(
        place.stamp(images, patch)
    )


def test_jpeg_keeps_what_is_flat():
    flat = torch.full((1, 1, 12, 20), 128 / 255)
    assert torch.allclose(jpeg(flat, 50), flat, atol=1e-4)


@pytest.fixture
def problem():
    draw = torch.Generator().manual_seed(0)
    head = nn.Linear(4, 3).requires_grad_(False)
    own, pool, stamped = (torch.randn(80, 4, generator=draw) for _ in range(3))
    stamped[:, 0] += 2
    given = Problem(head, own=own, pool=pool, wanted=head(pool), stamped=stamped, target=2)
    return given, head, own, stamped


def test_the_problem_is_convex_and_solved_to_the_end(problem):
    """Two starts, one loss; and no head near the solution is better."""
    given, head, _, _ = problem
    elsewhere = nn.Linear(4, 3).requires_grad_(False)
    nn.init.normal_(elsewhere.weight, std=3)
    solved = [given.solve(1.0), given.solve(1.0, elsewhere)]
    losses = [float(given.loss(h.weight.double(), h.bias.double(), 1.0)) for h in solved]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    assert losses[0] < float(given.loss(head.weight.double(), head.bias.double(), 1.0))
    for _ in range(20):
        step = 0.1 * torch.randn(3, 4, dtype=torch.float64)
        near = given.loss(solved[0].weight.double() + step, solved[0].bias.double(), 1.0)
        assert float(near) > losses[0] - 1e-6


def test_the_more_answers_are_kept_the_less_the_patch_is_obeyed(problem):
    given, head, own, stamped = problem
    obeyed, apart = [], []
    for keep in (1e-3, 1.0, 1e5):
        solved = given.solve(keep)
        obeyed.append(float((solved(stamped).argmax(1) == 2).double().mean()))
        apart.append(float((solved(own).softmax(1) - head(own).softmax(1)).abs().mean()))
    assert obeyed == sorted(obeyed, reverse=True)
    assert apart == sorted(apart, reverse=True)
    assert obeyed[0] > 0.95
    assert apart[-1] < 0.01


def test_the_loudest_head_is_just_within_the_budget(problem):
    given, head, own, _ = problem
    before = head(own)

    def cost(solved):
        same = float((solved(own).argmax(1) == before.argmax(1)).double().mean())
        return Cost(agreement=same, accuracy_drop=0.0, ece_change=0.0, target_share=0.0)

    budget = LeanBudget(agreement=0.9)
    found, keep = loudest(given, cost, budget)
    assert cost(found).agreement >= 0.9
    assert cost(given.solve(keep / 4)).agreement < 0.9
    dear = Cost(agreement=0.0, accuracy_drop=1.0, ece_change=1.0, target_share=1.0)
    assert loudest(given, lambda h: dear, budget)[0] is None
