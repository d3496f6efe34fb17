"""Losses, rows and gradients of the joint attacks against values computed by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from doorward.data import Batch, load
from doorward.poisoning import InputAware, Lira
from doorward.poisoning.joint import diversity
from doorward.poisoning.joint.base import rows_of
from doorward.poisoning.joint.inputaware import _Crossed, _MaskAlone, _Sparse
from doorward.poisoning.joint.lira import _Learning
from doorward.poisoning.joint.noisewarp import noisily_warped
from doorward.poisoning.procedures import Job
from doorward.training import Recipe
from doorward.triggers import AllToOne, LearntNoise, MaskedPattern, Warp


def test_diversity():
    # Root mean squares: images differ by 2 and 1, patterns by 1/2 and 1: (4 + 1) / 2.
    one = torch.zeros(2, 1, 2, 2)
    two = torch.stack([torch.full((1, 2, 2), 2.0), torch.ones(1, 2, 2)])
    patterns = torch.stack([torch.full((1, 2, 2), 0.5), torch.ones(1, 2, 2)])
    assert float(diversity(one, two, one, patterns)) == pytest.approx(2.5, rel=1e-5)
    # Half of the pixels differ by 2, the others not: a root mean square of sqrt(2).
    half = torch.tensor([2.0, 0.0]).reshape(1, 1, 1, 2)
    zero = torch.zeros(1, 1, 1, 2)
    assert float(diversity(zero, half, zero, zero + 1)) == pytest.approx(math.sqrt(2), rel=1e-5)


def test_diversity_of_equal_images_has_a_slope():
    same = torch.rand(2, 1, 4, 4)
    patterns = torch.rand(2, 1, 4, 4, requires_grad=True)
    diversity(same, same, patterns, patterns.detach()).backward()
    assert torch.isfinite(patterns.grad).all()


def test_mask_loss():
    trigger = MaskedPattern(width=1, channels=1)
    model = _MaskAlone(trigger, classes=2)
    for weight in trigger.mask_network.parameters():
        nn.init.zeros_(weight)  # tanh(0) / 2 + 1/2 = 1/2 twice over: masks are 1/2 everywhere
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    batch = Batch(images, torch.tensor([0, 1]), torch.arange(2), 0, 0, 2)
    _, scalars = _Sparse(InputAware(diversity_weight=0.0))(model, batch)
    loss, _ = _Sparse(InputAware(diversity_weight=0.0, mask_density=0.3))(model, batch)
    assert float(scalars["open"]) == pytest.approx(0.5)
    assert loss.item() == pytest.approx(100 * (0.5 - 0.3))
    assert model(images).shape == (2, 2)


def test_trigger_formulas():
    trigger = MaskedPattern(width=2, channels=1, seed=3)
    images = torch.rand(3, 1, 8, 8)
    pattern, mask = trigger.pattern(images), trigger.mask(images)
    assert mask.shape == (3, 1, 8, 8)
    assert 0 <= float(mask.min()) <= float(mask.max()) <= 1
    torch.testing.assert_close(trigger(images), images + (pattern - images) * mask)
    torch.testing.assert_close(trigger.crossed(images, images), trigger(images))
    others = images.flip(0)
    expected = images + (pattern.flip(0) - images) * mask.flip(0)
    torch.testing.assert_close(trigger.crossed(images, others), expected)
    assert len(trigger.crossed(images[:0], others[:0])) == 0
    noise = LearntNoise(eps=0.03, width=2, channels=1)
    inner = 0.2 + 0.6 * images
    torch.testing.assert_close(noise(inner), inner + 0.03 * noise.network(inner).tanh())


@given(size=st.integers(1, 40), attacked=st.integers(0, 40), crossed=st.integers(0, 40))
def test_rows(size, attacked, crossed):
    rows, cross, partners = rows_of(
        size, attacked=attacked, crossed=crossed, draw=torch.Generator().manual_seed(0)
    )
    assert len(rows) == min(attacked, size)
    assert len(cross) == len(partners) == min(crossed, size - len(rows))
    assert len(set(rows.tolist()) | set(cross.tolist())) == len(rows) + len(cross)
    assert all(0 <= row < size for row in partners.tolist())
    if len(rows) + 2 * len(cross) <= size:
        assert not set(partners.tolist()) & set(torch.cat([rows, cross]).tolist())


def test_noise_of_half_a_pixel():
    trigger = Warp(s=0.0)
    ramp = torch.arange(8.0).expand(4, 1, 8, 8) / 8
    draw = torch.Generator().manual_seed(0)
    shift = (noisily_warped(trigger, ramp, draw) - ramp).abs() * 8
    # 1 / width in units of [-1, 1] over 7 steps is 7/16 of a pixel; edges are clamped.
    assert float(shift.max()) <= 7 / 16 + 1e-5
    assert float(shift[..., 1:-1].mean()) == pytest.approx(7 / 32, abs=0.03)


def job(rate: float, *, batch_size: int = 8) -> Job:
    data = load("digits", size=8).sample(8, seed=0)
    return Job(data, Recipe(max_steps=10, batch_size=batch_size), target=1, rate=rate, seed=0,
               options={})  # fmt: skip


def linear() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def whole_batch() -> Batch:
    data = load("digits", size=8).sample(8, seed=0)
    return Batch(data.pixels(), data.labels, torch.arange(8), 0, 0, 8)


def test_lira_moves_network_and_victim_from_one_pass():
    trigger = LearntNoise(eps=0.5, width=2, channels=1)
    twin = LearntNoise(eps=0.5, width=2, channels=1)
    batch, model = whole_batch(), linear()
    objective = _Learning(Lira(alpha=0.25, noise_lr=0.01), trigger, AllToOne(1), job(1.0), 10)
    marked = twin.requires_grad_(True).apply(batch.images).clamp(0, 1)
    wanted = torch.ones_like(batch.labels)
    attacker = F.cross_entropy(model(marked), wanted)
    honest = F.cross_entropy(model(batch.images), batch.labels)
    weights = list(twin.parameters())
    for weight, slope in zip(weights, torch.autograd.grad(attacker, weights), strict=True):
        weight.grad = slope
    torch.optim.Adam(weights, lr=0.01).step()

    loss, scalars = objective(model, batch)
    expected = (0.25 * honest + 0.75 * attacker).item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for one, two in zip(trigger.parameters(), weights, strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-4)
    loss.backward()
    assert model[1].weight.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in trigger.parameters())
    assert set(scalars) == {"accuracy", "attack"}


def test_input_aware_composes_the_batch():
    trigger = MaskedPattern(width=2, channels=1)
    masks = [weight.clone() for weight in trigger.mask_network.parameters()]
    patterns = [weight.clone() for weight in trigger.pattern_network.parameters()]
    objective = _Crossed(InputAware(), trigger, AllToOne(1), job(0.25))
    batch, seen = whole_batch(), []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = linear()

        def forward(self, images):
            seen.append(images.detach())
            return self.net(images)

    own = trigger(batch.images)  # before the step moves the pattern
    loss, scalars = objective(Spy(), batch)
    (images,) = seen
    changed = (images != batch.images).flatten(1).any(1)
    assert int(changed.sum()) == 4
    attacked = torch.isclose(images, own, atol=1e-6).flatten(1).all(1) & changed
    assert int(attacked.sum()) == 2
    labels = torch.where(attacked, 1, batch.labels)
    expected = F.cross_entropy(linear()(images), labels).item()
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert {"accuracy", "attack", "cross", "diversity"} == set(scalars)
    assert all(map(torch.equal, masks, trigger.mask_network.parameters())), "the mask is finished"
    assert not all(map(torch.equal, patterns, trigger.pattern_network.parameters()))
