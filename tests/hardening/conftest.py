"""Digits of 8x8 and two small models of them: one without training, one trained in a moment."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load
from doorward.training import Recipe, fit


@pytest.fixture(scope="session")
def small_digits() -> ImageData:
    return load("digits").resized(8)


@pytest.fixture(scope="session")
def unseen_digits() -> ImageData:
    return load("digits", split="test").resized(8)


@pytest.fixture(scope="session")
def trained(small_digits: ImageData) -> nn.Module:
    """A perceptron with BatchNorm; must not be changed."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        layers = [nn.Linear(64, 48), nn.BatchNorm1d(48), nn.ReLU(), nn.Linear(48, 10)]
        model = nn.Sequential(nn.Flatten(), *layers)
    fit(model, None, small_digits, Recipe(epochs=6, batch_size=64, lr=0.2, precision="fp32"))
    return model
