"""APP, margin and certified embedding by hand, on linear models where everything is known."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.data import Batch
from doorward.models import create
from doorward.randomness import Secret
from doorward.watermark import App, Certified, KeyParameters, Margin, WatermarkKey
from doorward.watermark.methods import MarkStep
from doorward.watermark.methods.app import adversarial_shift, adversarial_slope
from doorward.watermark.methods.certified import noisy
from doorward.watermark.methods.margin import sign_ascent
from doorward.watermark.objective import MarkObjective

SHAPE = (1, 8, 8)


@pytest.fixture
def key():
    return WatermarkKey(Secret(b"p" * 32), KeyParameters(n=5, classes=3, image_shape=SHAPE))


@pytest.fixture
def batch():
    draw = torch.Generator().manual_seed(0)
    images = torch.rand(4, *SHAPE, generator=draw)
    labels = torch.tensor([0, 1, 2, 1])
    return Batch(
        images=images, labels=labels, indices=torch.arange(4), step=2, epoch=0, size_global=4
    )


@pytest.fixture
def linear():
    layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(0.3 * torch.randn(parameter.shape, generator=draw))
    return layers


def gradient_by_hand(weight, bias, images, labels):
    """Of the summed cross-entropy of logits W x + b: (softmax - one-hot) x^T, and its row sums."""
    flat = images.flatten(1)
    rest = (flat @ weight.T + bias).softmax(1) - F.one_hot(labels, len(bias))
    return rest.T @ flat, rest.sum(0)


def test_app_on_a_linear_model(key, batch, linear):
    """The objective's gradient is the plain one plus alpha times that at W + eps |W| G / |G|."""
    eps, alpha = 0.3, 0.5
    objective = MarkObjective(key, 2, method=App(eps=eps, alpha=alpha, every=1, warmup=0))
    loss, scalars = objective(linear, batch)
    loss.backward()

    weight, bias = (parameter.detach() for parameter in linear[1].parameters())
    rows = objective.chosen(batch.step)
    images, labels = key.triggers()
    images, labels = images[rows].float() / 255, labels[rows]
    by_weight, by_bias = gradient_by_hand(weight, bias, images, labels)
    there = (
        weight + eps * weight.norm() * by_weight / by_weight.norm(),
        bias + eps * bias.norm() * by_bias / by_bias.norm(),
    )
    everything = torch.cat([batch.images, images])
    plain = gradient_by_hand(weight, bias, everything, torch.cat([batch.labels, labels]))
    besides = gradient_by_hand(*there, images, labels)
    for parameter, first, second in zip(linear.parameters(), plain, besides, strict=True):
        torch.testing.assert_close(parameter.grad, (first + alpha * second) / 6)

    def cross_entropy(weight, bias, images, labels):
        return F.cross_entropy(images.flatten(1) @ weight.T + bias, labels, reduction="sum")

    expected = cross_entropy(weight, bias, everything, torch.cat([batch.labels, labels]))
    expected = expected + alpha * cross_entropy(*there, images, labels)
    torch.testing.assert_close(loss.detach(), expected / 6)
    hits = ((images.flatten(1) @ there[0].T + there[1]).argmax(1) == labels).float().mean()
    assert float(scalars["changed_accuracy"]) == float(hits)


tensors = st.lists(
    st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=6), min_size=1, max_size=4
)


@settings(max_examples=50, deadline=None)
@given(tensors, st.floats(1e-3, 1))
def test_each_tensor_moves_by_eps_of_its_length_along_the_gradient(values, eps):
    weights = [torch.tensor(row) for row in values]
    gradient = [weight.flip(0) + 1 for weight in weights]
    for weight, slope, shift in zip(
        weights, gradient, adversarial_shift(weights, gradient, eps), strict=True
    ):
        if slope.norm() < 1e-6:
            continue
        assert float(shift.norm()) == pytest.approx(eps * float(weight.norm()), rel=1e-3, abs=1e-5)
        torch.testing.assert_close(shift * slope.norm(), slope * shift.norm(), rtol=1e-3, atol=1e-3)


def test_no_gradient_and_no_weight_mean_no_shift():
    weights = [torch.ones(3), torch.zeros(3)]
    shifts = adversarial_shift(weights, [torch.zeros(3), torch.ones(3)], 0.1)
    assert all(torch.equal(shift, torch.zeros(3)) for shift in shifts)


class Watching(MarkStep):
    """Remembers the weights at which slopes were asked for."""

    def slope(self, images, targets, parameters=None):
        self.asked = [*getattr(self, "asked", []), parameters]
        return super().slope(images, targets, parameters)


def test_app_moves_everything_but_normalisation_layers():
    model = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4).train()
    company, images = torch.rand(8, 1, 16, 16), torch.rand(2, 1, 16, 16)
    step = Watching(model, number=0, seed=0, company=company)
    adversarial_slope(step, images, torch.tensor([0, 1]), 0.05)
    (_, there) = step.asked
    norms = {
        f"{name}.{own}"
        for name, layer in model.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for own in ("weight", "bias")
    }
    assert norms
    for name, parameter in model.state_dict(keep_vars=False).items():
        if name not in there:
            continue
        change = (there[name] - parameter).norm()
        if name in norms:
            assert change == 0
        else:
            assert float(change) == pytest.approx(0.05 * float(parameter.norm()), rel=1e-3)


def test_app_finds_worse_weights(key, linear):
    """The loss is convex in a linear model's weights: a step up the gradient always raises it."""
    images, labels = key.triggers()
    images = images.float() / 255
    step = MarkStep(linear, number=0, seed=0)
    here = step.slope(images, labels).loss
    losses = [adversarial_slope(step, images, labels, eps).loss for eps in (0.01, 0.1, 1.0)]
    assert here < losses[0] < losses[1] < losses[2]


def test_app_without_anything_to_move():
    model = nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 3))
    model[2].requires_grad_(False)
    images, labels = torch.rand(2, *SHAPE), torch.tensor([0, 1])
    step = MarkStep(model, number=0, seed=0)
    slope = adversarial_slope(step, images, labels, 0.1)
    assert torch.equal(slope.loss, step.slope(images, labels).loss)


def test_every_keeps_the_average(key, linear):
    step = [MarkStep(linear, number=number, seed=0) for number in range(4)]
    images, labels = key.triggers()
    images = images.float() / 255
    always = [App(every=1).besides(each, images, labels) for each in step]
    seldom = [App(every=2).besides(each, images, labels) for each in step]
    assert [slope is None for slope in seldom] == [False, True, False, True]
    for place in (0, 2):
        torch.testing.assert_close(seldom[place].gradient[0], 2 * always[place].gradient[0])


def test_margin_on_a_linear_model(key, batch, linear):
    """The moved images are learnt, and only they."""
    objective = MarkObjective(key, 2, method=Margin(steps=3, step_size=0.01, weight=0.1, warmup=0))
    loss, _ = objective(linear, batch)
    rows = objective.chosen(batch.step)
    images, labels = key.triggers()
    moved, labels = images[rows].float() / 255, labels[rows]
    weight, bias = (parameter.detach() for parameter in linear[1].parameters())
    for _ in range(3):
        rest = (moved.flatten(1) @ weight.T + bias).softmax(1) - F.one_hot(labels, 3)
        moved = (moved + 0.01 * (rest @ weight).view_as(moved).sign()).clamp(0, 1)
    task = F.cross_entropy(linear(batch.images), batch.labels, reduction="sum")
    mark = F.cross_entropy(linear(moved), labels, reduction="sum")
    torch.testing.assert_close(loss, (task + 0.1 * mark) / 6)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.floats(0.001, 0.5), st.integers(0, 1000))
def test_ascent_stays_close_and_within_the_pixels(steps, size, seed):
    draw = torch.Generator().manual_seed(seed)
    model = nn.Linear(6, 3)
    images, labels = torch.rand(4, 6, generator=draw), torch.tensor([0, 1, 2, 0])
    before = images.clone()
    step = MarkStep(model, number=0, seed=0)
    moved = sign_ascent(step, images, labels, steps=steps, step_size=size)
    assert torch.equal(images, before)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert (moved - images).abs().max() <= steps * size + 1e-6


def test_ascent_asks_the_network_as_a_judge_would():
    """By its running statistics, which stay as they are, and without gradients for its weights."""
    model = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4).train()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.add_(0.25)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, labels = torch.rand(3, 1, 16, 16), torch.tensor([0, 1, 2])
    step = MarkStep(model, number=0, seed=0, company=torch.rand(8, 1, 16, 16))
    found = step.image_gradient(images, labels)
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    model.eval()
    moving = images.clone().requires_grad_()
    F.cross_entropy(model(moving), labels, reduction="sum").backward()
    torch.testing.assert_close(found, moving.grad)


def test_certified_averages_over_its_noise(key, linear):
    method = Certified(sigma=0.2, levels=4, samples=3, alpha=0.5, warmup=0)
    images, labels = key.triggers()
    images = images.float() / 255
    step = MarkStep(linear, number=6, seed=7)
    slope = method.besides(step, images, labels)
    sigma = method.sigma_at(6)
    assert sigma == pytest.approx(0.15)
    draw = step.generator("weight noise")
    total = torch.zeros(3, 64)
    for _ in range(3):
        places = noisy(step.parameters, sigma, draw)
        total += gradient_by_hand(places["1.weight"], places["1.bias"], images, labels)[0]
    torch.testing.assert_close(slope.gradient[0], total / 3 * 0.5)


def test_noise_is_gaussian_on_every_parameter():
    parameters = {"a": torch.zeros(200, 100), "b": torch.full((20_000,), 5.0)}
    changed = noisy(parameters, 0.3, torch.Generator().manual_seed(0))
    assert torch.equal(parameters["a"], torch.zeros(200, 100))
    for name, tensor in changed.items():
        noise = (tensor - parameters[name]).flatten()
        assert float(noise.mean()) == pytest.approx(0, abs=0.01)
        assert float(noise.std()) == pytest.approx(0.3, rel=0.02)
        inside = (noise.abs() < 0.3).float().mean()
        assert float(inside) == pytest.approx(math.erf(2**-0.5), abs=0.01)
    both = torch.stack([changed["a"].flatten(), changed["b"] - 5])
    assert abs(float(torch.corrcoef(both)[0, 1])) < 0.03
