"""A small BadNets victim and a clean model, trained once for all tests of this folder."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from torch import nn

from doorward.data import ImageData, load
from doorward.models import create
from doorward.poisoning import attack, implant
from doorward.training import Recipe, fit
from doorward.triggers import Backdoor


class Scene(NamedTuple):
    """Who was attacked how, and what the defender has. Models must not be changed."""

    victim: nn.Module
    innocent: nn.Module
    clean: ImageData
    test: ImageData
    backdoor: Backdoor


@pytest.fixture(scope="session")
def scene() -> Scene:
    """Digits at 16x16, ResNet-8 of width 8, 10 % BadNets; a quarter of the data stays clean."""
    train, test = load("digits").resized(16), load("digits", split="test").resized(16)
    poisoned, clean = train.split(0.75, 0.25, seed=0)
    backdoor = attack("badnets", image_shape=train.image_shape, target=3)
    recipe = Recipe(epochs=6, batch_size=64, lr=0.1, weight_decay=5e-4, precision="fp32")
    models = [
        create("resnet8", classes=train.classes, input_shape=(1, 16, 16), width=8) for _ in "ab"
    ]
    result = implant(models[0], poisoned, backdoor, recipe, rate=0.1, test=test)
    assert result.attack_success > 0.9
    assert result.accuracy > 0.9
    fit(models[1], None, poisoned, recipe)
    return Scene(models[0], models[1], clean, test, backdoor)


@pytest.fixture
def digits() -> ImageData:
    """A few small digits for tests that only look at the mechanics."""
    return load("digits").sample(24, seed=0).resized(16)


@pytest.fixture
def model() -> nn.Module:
    """An untrained ResNet-8 for them."""
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
