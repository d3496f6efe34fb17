"""A small BadNets victim and a clean model, and a scanner that knows what it shall find."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from pydantic.dataclasses import dataclass
from torch import Generator, Tensor, full, full_like, nn

from doorward.data import ImageData, load
from doorward.models import create
from doorward.poisoning import attack, implant
from doorward.records import STRICT
from doorward.scanning import SCANNERS, Finding, Look, Recovered, Scanner
from doorward.training import Recipe, fit
from doorward.training.context import Context
from doorward.triggers import Backdoor, Trigger


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


class Known(Recovered):
    """One trigger that the test chose, or images of one grey."""

    def __init__(self, target: int, trigger: Trigger | None = None, value: float = 0.5) -> None:
        super().__init__(target)
        self.trigger, self.value = trigger, value

    def config(self) -> dict[str, Any]:
        """Enough for the abstract class."""
        return {"target": self.target, "value": self.value}

    def stamp(self, images: Tensor, draw: Generator) -> Tensor:
        """Without anything random."""
        return full_like(images, self.value) if self.trigger is None else self.trigger(images)

    def pictures(self, count: int, draw: Generator) -> Tensor:
        """On grey images."""
        return self.stamp(full((count, 1, 16, 16), 0.5), draw)


@pytest.fixture
def knowing() -> Iterator[None]:
    """A scanner `knowing`, for one test: it says what its parameters say."""

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Knowing(Scanner):
        """Accuses one class or nobody, or another one, too, whose triggers it has not seen."""

        name = "knowing"
        alarm: float = 0.5
        target: int = 1
        sure: float = 1.0
        blind: bool = False
        unseen: int | None = None

        def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
            findings = [
                Finding(target=k, statistic=self.sure * (k in (self.target, self.unseen)))
                for k in range(clean.num_classes)
            ]
            backdoor = attack("badnets", image_shape=clean.image_shape, target=self.target)
            found = Known(self.target, backdoor.trigger)
            return Look(findings, {} if self.blind else {self.target: found})

    SCANNERS._entries["knowing"] = Knowing
    SCANNERS._facts["knowing"] = {"paper": "-", "finds": "what it is told", "images": "none"}
    yield
    del SCANNERS._entries["knowing"], SCANNERS._facts["knowing"]
