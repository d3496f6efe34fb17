"""A clean model and two with planted patches, on small digits; trained once for this folder."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from torch import nn

from doorward.data import ImageData, load
from doorward.models import create
from doorward.poisoning import implant
from doorward.training import Recipe, fit
from doorward.triggers import AllToOne, Backdoor, Patch

TARGET = 3
"""The attacked class of all planted models."""


class Digits(NamedTuple):
    """Digits of 16x16: the attacker's, the defender's, and those that nobody trains on."""

    train: ImageData
    clean: ImageData
    test: ImageData


@pytest.fixture(scope="session")
def digits16() -> Digits:
    """1,078 images to train on, 359 clean ones for the scanner, 360 to test."""
    train, clean = load("digits").resized(16).split(0.75, 0.25, seed=0)
    return Digits(train, clean, load("digits", split="test").resized(16))


def _untrained() -> nn.Module:
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)


def _recipe(seed: int = 0) -> Recipe:
    return Recipe(epochs=5, batch_size=64, lr=0.2, weight_decay=5e-4, precision="fp32", seed=seed)


@pytest.fixture(scope="session")
def clean_model(digits16: Digits) -> nn.Module:
    """ResNet-8 of width 8 without a backdoor. Must not be changed."""
    model = _untrained()
    fit(model, None, digits16.train, _recipe())
    return model


@pytest.fixture(scope="session")
def patched_model(digits16: Digits) -> nn.Module:
    """The same with BadNets: a white 3x3 patch in the corner means class 3. Must not be changed."""
    return _planted(digits16, Patch(size=3))


@pytest.fixture(scope="session")
def scattered_model(digits16: Digits) -> nn.Module:
    """The same with a patch that works anywhere: 3x3 at random places means class 3."""
    return _planted(digits16, Patch(size=3, position="random"))


def _planted(digits: Digits, trigger: Patch) -> nn.Module:
    model = _untrained()
    backdoor = Backdoor(trigger, AllToOne(TARGET))
    result = implant(model, digits.train, backdoor, _recipe(), rate=0.15, test=digits.test)
    assert result.attack_success > 0.9
    assert result.accuracy > 0.9
    return model
