"""Every method on the board keeps the same promises, on every kind of network."""

from __future__ import annotations

import copy
import json
import threading
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

import doorward.hardening  # noqa: F401 - it files the methods deck and moth
from doorward.data import ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable, TrainingDiverged, UnknownName
from doorward.models import create
from doorward.removal import REMOVALS, FineTuning, Quantisation, RemovalResult, removal, remove

QUICK: dict[str, dict[str, Any]] = {
    "anp": {"iterations": 2, "batch_size": 16},
    "bti-dbf": {
        "rounds": 2,
        "mask_epochs": 1,
        "translate_epochs": 1,
        "unlearn_epochs": 1,
        "width": 4,
    },
    "clp": {"u": 1.0},
    "deck": {"steps": 2, "checks": 1, "first_steps": 2, "next_steps": 1, "warm_steps": 1},
    "fine-pruning": {"epochs": 1, "share": 0.3},
    "fine-tuning": {"epochs": 1},
    "fst": {"epochs": 1},
    "ft-sam": {"epochs": 1},
    "i-bau": {"rounds": 1, "fixed_point_steps": 2, "batch_size": 12},
    "magnitude-pruning": {"epochs": 1},
    "mesa-unlearning": {"epochs": 1, "scanner": "knowing"},
    "moth": {"steps": 2, "checks": 1, "first_steps": 2, "next_steps": 1, "warm_steps": 1},
    "nad": {"epochs": 1, "teacher_epochs": 1, "lr": 0.01},
    "nc-unlearning": {"epochs": 1, "search_epochs": 1, "search_batch_size": 12, "targets": (1,)},
    "quantisation": {"activations": True},
    "rnp": {"iterations": 2, "unlearn_epochs": 1},
    "sau": {"epochs": 1, "ascent_steps": 2},
}
"""Parameters with which a method is over in a moment."""


def plain_cnn() -> nn.Module:
    """No BatchNorm, a flattened map into a hidden layer, non-square colour images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 8 * 10, 12),
        nn.ReLU(),
        nn.Linear(12, 10),
    )


NETWORKS: dict[str, tuple[Any, tuple[int, int, int]]] = {
    "resnet8": (
        lambda: create("resnet8", classes=10, input_shape=(1, 16, 16), width=4),
        (1, 16, 16),
    ),
    "vgg11-bn": (
        lambda: create("vgg11-bn", classes=10, input_shape=(1, 16, 16), width=4),
        (1, 16, 16),
    ),
    "vit-tiny": (
        lambda: create("vit-tiny", classes=10, input_shape=(1, 16, 16), depth=2, width=48),
        (1, 16, 16),
    ),
    "plain": (plain_cnn, (3, 16, 20)),
}

UNSUITABLE: set[tuple[str, str]] = set()
"""Methods that a network has not the parts for, and that must say so."""


def data_of(shape: tuple[int, int, int]) -> ImageData:
    return load("digits").sample(24, seed=0).resized(shape[1:]).with_channels(shape[0])


def snapshot(model: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[bool]]:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    return state, modes, [parameter.requires_grad for parameter in model.parameters()]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


def test_every_method_is_in_this_table() -> None:
    assert sorted(QUICK) == REMOVALS.names()


@pytest.mark.parametrize(
    "network",
    # The seed test below runs every method on a ResNet, too.
    [
        "plain",
        "vit-tiny",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet8", "vgg11-bn")),
    ],
)
@pytest.mark.parametrize("name", REMOVALS)
def test_every_method_on_every_network(name: str, network: str, knowing: None) -> None:
    build, shape = NETWORKS[network]
    model, clean = build(), data_of(shape)
    model.train()
    next(iter(model.children())).eval()
    next(model.parameters()).requires_grad_(False)
    before = snapshot(model)
    if (name, network) in UNSUITABLE:
        with pytest.raises(ModelUnsuitable, match="its sites are"):
            remove(model, clean, removal(name, **QUICK[name]))
        return
    repaired, result = remove(model, clean, removal(name, **QUICK[name]), seed=1)
    after = snapshot(model)
    assert_same(before[0], after[0])
    assert before[1:] == after[1:]
    assert repaired is not model
    modes = {module: mode.training for module, mode in repaired.named_modules()}
    expected = {module: mode.training for module, mode in model.named_modules()}
    assert modes == expected
    assert snapshot(repaired)[2] == before[2]
    shared = {p.data_ptr() for p in model.parameters()} & {
        p.data_ptr() for p in repaired.parameters()
    }
    assert not shared
    with torch.no_grad():
        logits = repaired.eval()(clean.pixels())
    assert logits.shape == (24, 10)
    assert bool(logits.isfinite().all())
    assert result.method == name
    assert (result.images, result.seed, result.data) == (24, 1, clean.name)
    assert result.seconds > 0
    assert result.peak_memory_mib > 0
    again = RemovalResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    assert removal(again.method, **again.parameters).digest() == result.recipe_digest
    assert all({"phase", "loss", "epoch"} <= set(entry) for entry in result.history)
    copy.deepcopy(repaired)


@pytest.mark.parametrize("name", REMOVALS)
def test_a_seed_decides_everything(
    name: str, digits: ImageData, model: nn.Module, knowing: None
) -> None:
    method = removal(name, **QUICK[name])
    torch.manual_seed(1)
    one, first = remove(model, digits, method, seed=5)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    two, second = remove(model, digits, method, seed=5)
    assert torch.equal(state, torch.get_rng_state())
    assert_same(one.state_dict(), two.state_dict())
    assert first.details == second.details


@pytest.mark.parametrize("name", REMOVALS)
def test_every_method_cites_its_paper_and_needs(name: str) -> None:
    assert {"paper", "needs"} == set(REMOVALS.facts(name))
    assert REMOVALS.summary(name).endswith(".")
    assert removal(name).name == name


@pytest.mark.parametrize("name", REMOVALS)
def test_unknown_parameters_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="strenght"):
        removal(name, strenght=3)


def test_unknown_names_are_explained(digits: ImageData, model: nn.Module) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'fine-tuning'"):
        remove(model, digits, "finetuning")


def test_parameters_out_of_range() -> None:
    with pytest.raises(ValidationError):
        FineTuning(lr=-1)
    for name, wrong in {
        "fine-tuning": {"layers": "first"},
        "magnitude-pruning": {"share": 1.0},
        "fine-pruning": {"held_out": 0.0},
        "anp": {"threshold": 1.5},
        "nad": {"betas": ()},
        "quantisation": {"bits": 9},
    }.items():
        with pytest.raises(InvalidInput, match="is not valid"):
            removal(name, **wrong)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "resnet8"}, "this looks into the model"),
        ({"clean": torch.zeros(4, 1, 16, 16)}, "Load them as ImageData"),
        ({"labels": "guess"}, "'given' and 'model'"),
        ({"method": FineTuning}, "a name in REMOVALS or a Removal"),
        ({"method": None}, "a name in REMOVALS or a Removal"),
        ({"device": "abacus"}, "no device called"),
        ({"device": "cuda:99"}, "not available"),
    ],
)
def test_bad_calls(
    change: dict[str, Any], message: str, digits: ImageData, model: nn.Module
) -> None:
    call = {"model": model, "clean": digits, "method": "quantisation"} | change
    with pytest.raises(InvalidInput, match=message):
        remove(**call)


def test_data_that_does_not_fit_the_model(digits: ImageData, model: nn.Module) -> None:
    with pytest.raises(ModelUnsuitable, match=r"\(1, 16, 16\)"):
        remove(model, digits.resized(20), "quantisation")
    narrow = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
    with pytest.raises(ModelUnsuitable, match="3 outputs for 10 classes"):
        remove(narrow, digits, "quantisation")
    broken = copy.deepcopy(model)
    next(broken.parameters()).data[0] = float("nan")
    with pytest.raises(ModelUnsuitable, match="NaN"):
        remove(broken, digits, "quantisation")


def test_a_model_that_cannot_be_copied(digits: ImageData, model: nn.Module) -> None:
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(ModelUnsuitable, match="cannot be copied"):
        remove(model, digits, "quantisation")


def test_a_training_that_diverges_says_so_and_harms_nothing(
    digits: ImageData, model: nn.Module
) -> None:
    before = snapshot(model)
    with pytest.raises(TrainingDiverged, match="Lower lr"):
        remove(model, digits, FineTuning(lr=1e30, epochs=9))
    assert_same(before[0], model.state_dict())


def test_the_models_own_labels(digits: ImageData, model: nn.Module) -> None:
    """Without labels the answers of the model are the task, whatever the set's classes are."""
    three = create("resnet8", classes=["a", "b", "c"], input_shape=(1, 16, 16), width=4)
    seen: list[Tensor] = []

    class Look(FineTuning):
        def repair(self, model: nn.Module, clean: ImageData, context: Any) -> nn.Module:
            seen.append(clean.labels)
            assert clean.classes == ("a", "b", "c")
            return super().repair(model, clean, context)

    _, result = remove(three, digits, Look(epochs=1), labels="model")
    with torch.no_grad():
        answers = three.eval()(digits.pixels()).argmax(1)
    assert torch.equal(seen[0], answers)
    assert (result.labels, result.method) == ("model", "Look")


def test_a_frozen_model_is_repaired_and_comes_back_frozen(
    digits: ImageData, model: nn.Module
) -> None:
    model.requires_grad_(False)
    repaired, _ = remove(model, digits, FineTuning(epochs=1))
    assert not any(parameter.requires_grad for parameter in repaired.parameters())
    with pytest.raises(AssertionError):
        assert_same(repaired.state_dict(), model.state_dict())


def test_results_say_what_was_found(digits: ImageData, model: nn.Module) -> None:
    _, result = remove(model, digits, Quantisation(activations=True, calibration=8))
    assert result.details["layers"] == 10
    assert result.details["activations"] == 10
    assert 0 < result.details["relative_error"] < 0.01
    assert result.environment["python"]
