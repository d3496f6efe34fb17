"""BAN: the noise's bound and sign steps, what it leaves alone, and a planted neuron."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.models import create
from doorward.scanning import NeuronNoise, scan
from doorward.scanning.noisynorms import NoisyNorms
from doorward.training.context import Context


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(40, seed=0).resized(16)


def context_of(model: nn.Module) -> Context:
    return Context(model, seed=0, device=torch.device("cpu"), room="scanning")


def test_noise_stays_within_its_bound(digits: ImageData) -> None:
    """Sign steps reach the bound and stay there; shifts of zero have no share to change."""
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
    for bound in (0.05, 0.3):
        noisy = NeuronNoise(bound=bound, steps=30)._noise(model, digits, context_of(model))
        shares = torch.cat([share.detach() for share in noisy.shares])
        assert float(shares.abs().max()) == pytest.approx(bound, rel=1e-5)
        assert float((shares.abs() > 0.99 * bound).float().mean()) > 0.2
    assert len(noisy.shares) == 2 * 9


def test_steps_have_the_size_of_a_sign(digits: ImageData) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
    context = context_of(model)
    method = NeuronNoise(bound=0.3, steps=1)
    first = NoisyNorms(model, 0.3, context.generator("noise"))
    after = method._noise(model, digits, context)
    moves = [(b - a).detach().abs() for a, b in zip(first.shares, after.shares, strict=True)]
    # 0.3, unless the bound was in the way or the gradient is zero.
    assert all(float(move.max()) <= 0.3 + 1e-6 for move in moves)
    free = torch.cat(
        [move[(b.abs() < 0.2999) & (move > 0)] for move, b in zip(moves, after.shares, strict=True)]
    )
    assert free.tolist() == pytest.approx([0.3] * len(free), rel=1e-3)


def test_noise_is_a_share_of_scale_and_shift() -> None:
    norm = nn.BatchNorm2d(1, eps=0.0)
    model = nn.Sequential(norm, nn.Flatten()).eval()
    with torch.no_grad():
        norm.weight.fill_(2.0)
        norm.bias.fill_(-1.0)
    noisy = NoisyNorms(model, 0.3, torch.Generator().manual_seed(0))
    with torch.no_grad():
        noisy.shares[0].fill_(0.25)
        noisy.shares[1].fill_(-0.5)
    assert noisy(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(2.5 * 3 - 0.5)
    assert model(torch.full((1, 1, 1, 1), 3.0)).item() == pytest.approx(5.0)
    noisy.clamp()
    assert noisy.shares[1].item() == pytest.approx(-0.3)


class Planted(nn.Module):
    """Answers by row blocks; an idle neuron, were its BatchNorm shifted, would shout class 3."""

    def __init__(self, loudness: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(11, eps=0.0)
        self.head = nn.Linear(11, 10, bias=False)
        with torch.no_grad():
            self.norm.bias[10] = -1.0
            self.head.weight.zero_()
            self.head.weight[:, :10] = torch.eye(10)
            self.head.weight[3, 10] = loudness

    def forward(self, images: Tensor) -> Tensor:
        rows = images.mean((1, 3))[:, :10]
        idle = torch.full_like(rows[:, :1], 0.95)
        seen = self.norm(torch.cat([rows, idle], 1)[:, :, None, None]).flatten(1)
        answers: Tensor = self.head(torch.cat([seen[:, :10], seen[:, 10:].relu()], 1))
        return answers


def test_a_planted_neuron_is_shaken_awake(digits: ImageData) -> None:
    method = NeuronNoise(mask_steps=200, mask_lr=0.05)
    result, recovered = scan(Planted(loudness=30.0), digits, method, labels="model")
    assert (result.accused, recovered) == ([3], {})
    assert result.finding(3).details["share"] == 1.0
    assert result.finding(3).attack_success is None
    innocent, _ = scan(Planted(loudness=0.0), digits, method, labels="model")
    assert innocent.accused == []
