"""Fine-tuning and its four classic forms; schedules; weights held in place."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import ModelUnsuitable, UnknownName
from doorward.models import find_head
from doorward.removal import ADI_ATTACKS, FineTuning, removal, remove
from doorward.removal.finetuning import reinitialise
from doorward.training.schedules import learning_rate

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    pairs = zip(before.state_dict().items(), after.state_dict().values(), strict=True)
    return {name for (name, one), other in pairs if not torch.allclose(one, other, atol=1e-20)}


def statistics(model: nn.Module) -> set[str]:
    return {name for name in model.state_dict() if name.endswith(STATISTICS)}


@pytest.mark.parametrize("batchnorm", ["train", "frozen"])
@pytest.mark.parametrize("attack", ["ftll", "rtll"])
def test_last_layer_attacks_touch_the_head_alone(
    attack: str, batchnorm: str, digits: ImageData, model: nn.Module
) -> None:
    method = dataclasses.replace(ADI_ATTACKS[attack], epochs=2, batchnorm=batchnorm)
    tuned, result = remove(model, digits, method)
    head = {"head.weight", "head.bias"}
    drift = statistics(model) if batchnorm == "train" else set()
    assert changed(model, tuned) == head | drift
    assert result.details == {"head": "head"}


def test_all_layers_means_all(digits: ImageData, model: nn.Module) -> None:
    tuned, _ = remove(model, digits, FineTuning(epochs=2, batchnorm="frozen", lr=0.1))
    assert changed(model, tuned) == set(model.state_dict()) - statistics(model)


def test_only_the_head_is_drawn_anew(digits: ImageData, model: nn.Module) -> None:
    """With a vanishing rate, what differs after RTAL is what was drawn."""
    method = dataclasses.replace(
        ADI_ATTACKS["rtal"], epochs=1, lr=1e-30, weight_decay=0.0, batchnorm="frozen"
    )
    tuned, _ = remove(model, digits, method, seed=3)
    assert changed(model, tuned) == {"head.weight", "head.bias"}
    bound = 1 / math.sqrt(16)
    drawn = find_head(tuned)[1].weight.detach()
    assert 0.9 * bound < float(drawn.abs().max()) <= bound
    other, _ = remove(model, digits, method, seed=4)
    assert changed(tuned, other) == {"head.weight", "head.bias"}


def test_reinitialising_is_uniform() -> None:
    layer = nn.Linear(100, 400)
    reinitialise(layer, torch.Generator().manual_seed(0))
    assert float(layer.weight.detach().abs().max()) <= 0.1
    assert float(layer.weight.detach().std()) == pytest.approx(0.1 / math.sqrt(3), rel=0.02)
    reinitialise(nn.Linear(4, 2, bias=False), torch.Generator().manual_seed(0))


def test_the_four_attacks_have_the_constants_of_their_code() -> None:
    assert {name: (attack.layers, attack.reinit_head) for name, attack in ADI_ATTACKS.items()} == {
        "ftll": ("last", False),
        "ftal": ("all", False),
        "rtll": ("last", True),
        "rtal": ("all", True),
    }
    for attack in ADI_ATTACKS.values():
        recipe = attack.recipe(seed=0)
        assert (recipe.lr, recipe.schedule, recipe.epochs) == (1e-3, "constant", 20)
        assert (recipe.momentum, recipe.nesterov, recipe.weight_decay) == (0.9, False, 5e-4)
        assert (recipe.batch_size, recipe.batchnorm, recipe.optimizer) == (100, "train", "sgd")


def test_refit_starts_large_and_decays_slowly() -> None:
    rate = learning_rate(FineTuning(lr=0.1, schedule="refit").recipe(seed=0), steps=210)
    rates = [rate(step) for step in range(210)]
    assert rates[0] == 0.1
    assert rates[-1] == pytest.approx(0.1 * 0.9**20)
    assert sorted(rates, reverse=True) == rates
    assert len(set(rates)) == 21


def test_a_headless_model_is_refused_early(digits: ImageData) -> None:
    model = nn.Sequential(nn.Conv2d(1, 10, 16), nn.Flatten())
    with pytest.raises(ModelUnsuitable, match="no head"):
        remove(model, digits, FineTuning(layers="last"))
    tuned, _ = remove(model, digits, FineTuning(epochs=1))
    assert changed(model, tuned)


@pytest.mark.parametrize("name", ["fine-tuning", "fst", "bti-dbf"])
def test_a_head_can_be_named(name: str, digits: ImageData, model: nn.Module) -> None:
    options = {"layers": "last"} if name == "fine-tuning" else {}
    with pytest.raises(UnknownName, match=r"linear layer is called 'haed'\. Did you mean 'head'"):
        remove(model, digits, removal(name, head="haed", **options))
    with pytest.raises(ModelUnsuitable, match="'body' is a Body"):
        remove(model, digits, removal(name, head="body", **options))


def test_the_named_head_is_the_one_that_is_tuned(digits: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10), nn.Linear(10, 10))
    for name, number in (("1", 1), ("2", 2), (None, 2)):
        tuned, result = remove(model, digits, FineTuning(layers="last", head=name, epochs=1))
        assert changed(model, tuned) == {f"{number}.weight", f"{number}.bias"}
        assert result.details["head"] == str(number)


def test_phases_are_told_apart_in_the_history(digits: ImageData, model: nn.Module) -> None:
    _, result = remove(model, digits, FineTuning(epochs=2, batch_size=8, lr=0.01))
    assert [(entry["phase"], entry["epoch"], entry["step"]) for entry in result.history] == [
        ("fine-tune", 1, 3),
        ("fine-tune", 2, 6),
    ]
    assert [entry["lr"] for entry in result.history] == [0.01, 0.01]
