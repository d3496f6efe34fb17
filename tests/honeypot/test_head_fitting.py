"""Honeypot heads fitted to tiny models: what is kept, what is bounded, what is refused."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doorward.data import load
from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.honeypot import LeanBudget
from doorward.honeypot.head import HEADS, HeadResult, fit_head
from doorward.honeypot.head.faithful import Upper
from doorward.honeypot.head.patch import Place
from doorward.models import create

SMALL = {"width": 4}
TINY = {
    "faithful": {
        "rounds": 2, "shadow": "resnet8", "shadow_options": SMALL, "shadow_epochs": 1,
        "head_epochs": 1, "patch_updates": 1, "batch_size": 50, "head_lr": 0.5,
    },
    "look-ahead": {
        "shadows": ({"options": SMALL}, {"options": SMALL, "labels": True, "age": 0.5}),
        "epochs": 2, "rounds": 1, "more_epochs": 1, "patch_updates": 2, "patch_images": 50,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(100, seed=0).resized(16)


@pytest.fixture(scope="module")
def model(digits):
    net = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4, seed=3)
    return net.eval()


def test_every_method_is_tried_here():
    assert set(TINY) == set(HEADS.names())


@pytest.mark.parametrize("method", sorted(TINY))
def test_only_the_head_differs(method, digits, model):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    wide = LeanBudget(agreement=0.9, accuracy_drop=0.1, ece_change=0.1)
    served, result = fit_head(
        model, digits, digits, method=method, target=4, budget=wide, **TINY[method]
    )
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    changed = {
        name for name, tensor in served.state_dict().items() if not tensor.equal(before[name])
    }
    assert changed
    assert changed <= {"head.weight", "head.bias"}
    assert result.backdoor().rule.labels(torch.tensor([0])).tolist() == [4]
    assert HeadResult.from_dict(result.to_dict()) == result
    images = digits.pixels()
    with torch.no_grad():
        same = (served(images).argmax(1) == model(images).argmax(1)).double().mean()
    assert result.cost.agreement == pytest.approx(float(same), abs=0.011)  # rounding may flip one


def test_the_bounds_hold_by_look_ahead(digits, model):
    tight = LeanBudget(agreement=0.99, accuracy_drop=0.0, ece_change=0.02, target_share=0.02)
    _, result = fit_head(model, digits, digits, budget=tight, **TINY["look-ahead"])
    assert result.excess == ()
    assert result.cost.agreement >= 0.99
    assert result.details["keep"] > 0
    assert result.signal > 0


def test_a_budget_that_nothing_keeps_is_said_so(digits, model):
    none = LeanBudget(agreement=1.0, accuracy_drop=0.0, ece_change=0.0, target_share=0.0)
    with pytest.raises(ModelUnsuitable, match="within the budget"):
        fit_head(model, digits, digits, budget=none, **TINY["look-ahead"])


def test_the_upper_problem_is_that_of_the_paper():
    """By hand: a model of two logits, equal answers, and a patch that is not seen."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    nn.init.zeros_(model[1].weight)
    nn.init.zeros_(model[1].bias)

    class Lot:
        images, indices = torch.rand(3, 1, 4, 4), torch.arange(3)

    place = Place(side=2, top=0, left=0)
    upper = Upper(torch.full((3, 2), 0.5), place, torch.zeros(1, 2, 2), 1, weight=3.0)
    loss, told = upper(model, Lot)
    assert loss.item() == pytest.approx(4 * 0.6931, abs=1e-3)
    assert told["success"].item() == 0.0


def test_a_foreign_model_with_a_named_layer(digits):
    class Foreign(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(nn.Flatten(), nn.Linear(256, 12), nn.ReLU())
            self.last = nn.Linear(12, 10)

        def forward(self, images):
            return self.last(self.features(images))

    foreign = Foreign().eval()
    wide = LeanBudget(agreement=0.9, accuracy_drop=0.1, ece_change=0.1)
    served, _ = fit_head(foreign, digits, digits, head="last", budget=wide, **TINY["look-ahead"])
    assert not served.last.weight.equal(foreign.last.weight)
    assert served.features[1].weight.equal(foreign.features[1].weight)
    with pytest.raises(ModelUnsuitable, match=r"features\.1"):
        fit_head(foreign, digits, digits, head="features.1", **TINY["look-ahead"])


def test_bad_input_is_refused_before_any_work(digits, model):
    with pytest.raises(InvalidInput, match="target"):
        fit_head(model, digits, digits, target=10)
    with pytest.raises(UnknownName, match="look-ahead"):
        fit_head(model, digits, digits, method="lookahead")
    with pytest.raises(InvalidInput, match="rounds"):
        fit_head(model, digits, digits, rounds=0)
    with pytest.raises(InvalidInput, match="pool"):
        fit_head(model, digits, digits.resized(8))
