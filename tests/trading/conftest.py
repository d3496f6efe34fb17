"""A lock on small digits, trained once for all tests. Models must not be changed."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.models import create
from doorward.trading import Lock, lock
from doorward.training import Recipe
from doorward.triggers import AllToOne, Backdoor, Patch

RECIPE = Recipe(epochs=3, batch_size=64, lr=0.15, weight_decay=5e-4, precision="fp32")


class Shop(NamedTuple):
    """A lock on the digits, and the data."""

    lock: Lock
    train: ImageData
    test: ImageData


@pytest.fixture(scope="session")
def small_digits() -> tuple[ImageData, ImageData]:
    return load("digits").resized(16), load("digits", split="test").resized(16)


@pytest.fixture(scope="session")
def shop(small_digits: tuple[ImageData, ImageData]) -> Shop:
    """A patch trigger, channel masks, a network eight channels wide, three epochs."""
    train, test = small_digits
    model = create("resnet8", classes=train.classes, input_shape=(1, 16, 16), width=8)
    backdoor = Backdoor(Patch(size=3), AllToOne(0))
    return Shop(lock(model, train, RECIPE, test=test, backdoor=backdoor), train, test)


@pytest.fixture
def tiny() -> nn.Module:
    """An untrained network with BatchNorm statistics that are not those of the start."""
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    with torch.no_grad():
        model(torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(0)))
    return model.eval()


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
