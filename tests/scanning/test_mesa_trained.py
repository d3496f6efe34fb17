"""Trained victims and a trained innocent, all parameters at their defaults."""

from __future__ import annotations

from typing import Any

import pytest

from doorward.data import load
from doorward.models import create
from doorward.poisoning import implant
from doorward.scanning import scan
from doorward.training import Recipe, fit
from doorward.triggers import AllToOne, Backdoor, Patch

RECIPE = Recipe(epochs=6, batch_size=64, lr=0.1, weight_decay=5e-4, precision="fp32")
PATCHES: dict[str, dict[str, Any]] = {
    "white, in a corner": {"size": 2},
    "ring, anywhere": {"pattern": [[0, 1, 0], [1, 0, 1], [0, 1, 0]], "position": "random"},
    "none": {},
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PATCHES)
def test_the_attacked_class_and_no_other_is_accused(name: str) -> None:
    train, test = load("digits").resized(16), load("digits", split="test").resized(16)
    poisoned, clean = train.split(0.75, 0.25, seed=0)
    model = create("resnet8", classes=train.classes, input_shape=(1, 16, 16), width=8)
    if PATCHES[name]:
        backdoor = Backdoor(Patch(**PATCHES[name]), AllToOne(3))
        assert implant(model, poisoned, backdoor, RECIPE, rate=0.1, test=test).attack_success > 0.9
    else:
        fit(model, None, poisoned, RECIPE)
    result, recovered = scan(model, clean, "mesa", device="cpu")
    assert result.accused == ([3] if PATCHES[name] else [])
    if PATCHES[name]:
        assert 3 in recovered
        assert (result.finding(3).attack_success or 0) > 0.8
