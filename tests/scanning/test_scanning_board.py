"""Every scanner keeps the same promises, on several kinds of network."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import create
from doorward.scanning import (
    RECOVERED,
    SCANNERS,
    ScanResult,
    load_recovered,
    save_recovered,
    scan,
    scanner,
)

QUICK: dict[str, dict[str, Any]] = {
    "ban": {"steps": 2, "mask_steps": 3},
    "mesa-reference": {"levels": [0.9], "iterations": 2, "batch_size": 8, "hidden": 8},
    "mm-bd": {"images": 2, "steps": 3},
    "neural-cleanse": {"epochs": 2, "batch_size": 10, "success": 0.01},
    "pixel": {"epochs": 2, "batch_size": 10, "success": 0.01},
}
"""Parameters with which a scanner is over in a moment; the default scanner has its own tests."""


def plain_cnn() -> nn.Module:
    """No BatchNorm, a flattened map into a hidden layer, non-square colour images."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
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
    "vit-tiny": (
        lambda: create("vit-tiny", classes=10, input_shape=(1, 16, 16), depth=1, width=48),
        (1, 16, 16),
    ),
    "plain": (plain_cnn, (3, 16, 20)),
}

UNSUITABLE = {("ban", "plain"), ("ban", "vit-tiny")}
"""Scanners that a network has not the parts for, and that must say so."""


def data_of(shape: tuple[int, int, int]) -> ImageData:
    return load("digits").sample(24, seed=0).resized(shape[1:]).with_channels(shape[0])


def quick(name: str) -> Any:
    return scanner(name, **QUICK[name])


def draw() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def snapshot(model: nn.Module) -> tuple[dict[str, Tensor], list[bool], list[bool]]:
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    return state, modes, [parameter.requires_grad for parameter in model.parameters()]


def test_every_scanner_is_in_this_table() -> None:
    assert set(SCANNERS.names()) - set(QUICK) <= {"mesa"}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", QUICK)
def test_every_scanner_on_every_network(name: str, network: str, tmp_path: Any) -> None:
    build, shape = NETWORKS[network]
    model, clean = build(), data_of(shape)
    model.train()
    next(iter(model.children())).eval()
    next(model.parameters()).requires_grad_(False)
    before = snapshot(model)
    if (name, network) in UNSUITABLE:
        with pytest.raises(ModelUnsuitable, match="has no BatchNorm"):
            scan(model, clean, quick(name))
        return
    torch.manual_seed(1)
    result, recovered = scan(model, clean, quick(name), seed=1)
    after = snapshot(model)
    assert all(torch.equal(before[0][key], after[0][key]) for key in before[0])
    assert before[1:] == after[1:]
    assert [finding.target for finding in result.findings] == list(range(10))
    assert result.scanner == name
    assert result.searched
    assert result.seconds > 0
    assert ScanResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert scanner(name, **result.parameters).digest() == result.recipe_digest
    images = clean.pixels()
    for target, found in recovered.items():
        assert found.target == target
        assert result.finding(target).attack_success is not None
        stamped = found.stamp(images, draw())
        assert stamped.shape == images.shape
        assert 0 <= float(stamped.min()) <= float(stamped.max()) <= 1
        assert torch.equal(images, clean.pixels())
        assert found.stamp(images[:0], draw()).shape == (0, *shape)
        pictures = found.pictures(3, draw())
        assert pictures.shape[:2] == (3, shape[0])
        assert 0 <= float(pictures.min()) <= float(pictures.max()) <= 1
    if recovered:
        target, found = next(iter(recovered.items()))
        save_recovered(found, tmp_path / "found")
        again = load_recovered(tmp_path / "found")
        assert type(again) is type(found)
        assert torch.equal(again.stamp(images, draw()), found.stamp(images, draw()))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    same, _ = scan(model, clean, quick(name), seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert same.findings == result.findings


@pytest.mark.parametrize("name", SCANNERS)
def test_every_scanner_says_what_it_is(name: str) -> None:
    assert {"paper", "finds", "images"} == set(SCANNERS.facts(name))
    assert SCANNERS.summary(name).endswith(".")
    assert scanner(name).name == name
    assert len(scanner(name).searched) > 40


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("neural-cleanse", {"epochs": 2, "batch_size": 8, "success": 0.1, "held_out": 0.1}),
        ("pixel", {"epochs": 2, "batch_size": 8, "success": 0.1, "held_out": 0.1}),
        ("mm-bd", {"images": 3, "steps": 4}),
    ],
)
def test_many_classes_are_searched_in_passes_of_bounded_memory(
    name: str, parameters: dict[str, Any]
) -> None:
    """With a gradient through more images than `pass_size` at once, memory would grow with K."""
    trained: list[int] = []

    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(256, 10)
            nn.init.normal_(self.head.weight, generator=draw())
            nn.init.zeros_(self.head.bias)

        def forward(self, images: Tensor) -> Tensor:
            if images.requires_grad:
                trained.append(len(images))
            answer: Tensor = self.head(images.flatten(1))
            return answer

    clean, model = data_of((1, 16, 16)), Counting()
    whole, _ = scan(model, clean, scanner(name, **parameters))
    assert max(trained) >= 30
    trained.clear()
    parts, _ = scan(model, clean, scanner(name, **parameters, pass_size=7))
    assert max(trained) == 7
    found = [finding.statistic for finding in parts.findings]
    assert found == pytest.approx([finding.statistic for finding in whole.findings], abs=1e-3)
    assert any(found)


@pytest.mark.parametrize("name", SCANNERS)
def test_every_scanner_has_a_field_that_bounds_memory(name: str) -> None:
    few = scanner(name).in_passes(5)
    changed = {k for k, v in few.to_dict().items() if v != scanner(name).to_dict()[k]}
    assert changed == {few.passes}
    assert few.to_dict()[few.passes] == 5
    with pytest.raises(InvalidInput, match=few.passes):
        few.in_passes(0)


@pytest.mark.parametrize("name", ["neural-cleanse", "pixel"])
def test_of_two_images_none_can_be_held_out(name: str) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    two = data_of((1, 16, 16))
    two = two.subset([0, int((two.labels != two.labels[0]).nonzero()[0])])
    with pytest.raises(InvalidInput, match="cannot be held out"):
        scan(model, two, quick(name))


@pytest.mark.parametrize("name", [name for name in SCANNERS if name != "mm-bd"])
def test_images_of_one_class_tell_nothing_of_its_triggers(name: str) -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    with pytest.raises(InvalidInput, match="all clean images are of class 3"):
        scan(model, data_of((1, 16, 16)).of_class(3), name)


def test_a_verdict_needs_images_to_measure_success_on() -> None:
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    with pytest.raises(InvalidInput, match=r"24 clean images are too few.*Give 40 or more"):
        scan(model, data_of((1, 16, 16)), "mesa")


def test_every_kind_of_recovered_triggers_is_registered() -> None:
    assert {"perturbation", "stamp"} <= set(RECOVERED)
