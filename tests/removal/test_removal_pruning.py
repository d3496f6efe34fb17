"""Pruning of weights, features and neurons, against counts and masks worked out by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.models import create
from doorward.models.layers import followers, maskable, stages
from doorward.removal import (
    AdversarialNeuronPruning,
    FinePruning,
    MagnitudePruning,
    remove,
    strongest,
)
from doorward.removal.masks import NeuronMasks, prune_neurons
from doorward.removal.pruning import keep_largest, weights_of


def zeros(model: nn.Module) -> dict[str, int]:
    return {name: int((weight == 0).sum()) for name, weight in weights_of(model).items()}


@given(
    st.lists(st.integers(-3, 3), min_size=1, max_size=40),
    st.floats(0, 1, exclude_max=True, allow_nan=False),
)
def test_exactly_the_share_is_pruned_whatever_the_ties(values: list[int], share: float) -> None:
    weight = torch.tensor(values, dtype=torch.float32)
    mask = keep_largest(weight, share)
    dead, alive = weight[mask == 0].abs(), weight[mask == 1].abs()
    assert len(dead) == round(share * len(values))
    assert not len(dead) or not len(alive) or float(dead.max()) <= float(alive.min())


@pytest.mark.parametrize("share", [0.0, 0.37, 0.9])
def test_pruned_share_is_exact(share: float, digits: ImageData, model: nn.Module) -> None:
    total = sum(weight.numel() for weight in weights_of(model).values())
    pruned, result = remove(model, digits, MagnitudePruning(share=share))
    assert sum(zeros(pruned).values()) == round(share * total) == result.details["pruned"]
    by_layer, _ = remove(model, digits, MagnitudePruning(share=share, scope="layer"))
    sizes = {name: weight.numel() for name, weight in weights_of(model).items()}
    assert zeros(by_layer) == {name: round(share * size) for name, size in sizes.items()}


def test_global_pruning_takes_the_smallest_of_all(digits: ImageData, model: nn.Module) -> None:
    joined = torch.cat([weight.detach().flatten().abs() for weight in weights_of(model).values()])
    pruned, _ = remove(model, digits, MagnitudePruning(share=0.5))
    left = torch.cat([weight.flatten() for weight in weights_of(pruned).values()])
    assert float(joined[left == 0].max()) <= float(joined[left != 0].min())


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_are_kept_in_fine_tuning(scope: str, digits: ImageData, model: nn.Module) -> None:
    bare, _ = remove(model, digits, MagnitudePruning(share=0.6, scope=scope))
    tuned, _ = remove(model, digits, MagnitudePruning(share=0.6, scope=scope, epochs=3, lr=0.1))
    for one, other in zip(weights_of(bare).values(), weights_of(tuned).values(), strict=True):
        assert torch.equal(one == 0, other == 0)
        assert not torch.equal(one, other)


def test_shared_weights_are_counted_once(digits: ImageData) -> None:
    first = nn.Linear(256, 256)
    second = nn.Linear(256, 256)
    second.weight = first.weight
    model = nn.Sequential(nn.Flatten(), first, second, nn.Linear(256, 10))
    assert list(weights_of(model)) == ["1.weight", "3.weight"]
    _, result = remove(model, digits, MagnitudePruning(share=0.5))
    assert result.details["weights"] == 256 * 256 + 2560


def test_nothing_to_prune_is_an_error(digits: ImageData) -> None:
    class Sums(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(256, 10))

        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) @ self.table

    for method in ("magnitude-pruning", "anp", "quantisation", "nad"):
        with pytest.raises(ModelUnsuitable, match="looked for, and it has Sums"):
            remove(Sums(), digits, method)


def hand_made() -> nn.Module:
    """Three features: the first is dead on dark images, the others are the image's mean."""
    model = nn.Sequential(
        nn.AvgPool2d(16), nn.Flatten(), nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 10)
    )
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[-1.0], [1.0], [2.0]]))
        model[2].bias.zero_()
    return model


def test_fine_pruning_drops_the_dormant_first(digits: ImageData) -> None:
    model = hand_made()
    pruned, result = remove(model, digits, FinePruning(share=1 / 3, epochs=0))
    assert (pruned[4].weight == 0).all(0).tolist() == [True, False, False]
    pruned, result = remove(model, digits, FinePruning(share=2 / 3, epochs=2, lr=0.1))
    assert (pruned[4].weight == 0).all(0).tolist() == [True, True, False]
    assert (result.details["channels"], result.details["pruned"]) == (3, 2)
    assert not torch.equal(pruned[4].weight[:, 2], model[4].weight[:, 2])


@pytest.mark.parametrize("layer", ["body.stage2.0.conv1.0", "body.stage2.0.conv1.1"])
def test_fine_pruning_of_a_named_layer(layer: str, digits: ImageData, model: nn.Module) -> None:
    """A convolution takes its BatchNorm along; both ways silence the same channels."""
    pruned, _ = remove(model, digits, FinePruning(layer=layer, share=0.5, epochs=2, lr=0.1))
    norm = pruned.get_submodule("body.stage2.0.conv1.1")
    dead = norm.weight == 0
    assert int(dead.sum()) == 4
    assert bool((norm.bias[dead] == 0).all())
    weight = pruned.get_submodule("body.stage2.0.conv1.0").weight
    assert bool((weight[dead] == 0).all()) is layer.endswith("0")


def test_fine_pruning_stops_at_its_budget(digits: ImageData) -> None:
    """A model that answers by one feature alone loses all at that feature, and keeps it."""
    model = hand_made()
    with torch.no_grad():
        model[4].weight.zero_()
        model[4].bias.zero_()
        model[4].weight[4] = torch.tensor([0.0, 0.0, 1.0])
    fours = ImageData(digits.images, torch.full_like(digits.labels, 4), digits.classes)
    pruned, result = remove(model, fours, FinePruning(budget=0.1, epochs=0))
    assert result.details["pruned"] == 2
    assert result.details["held_out_accuracy"] == 1.0
    assert pruned[4].weight[4].tolist() == [0.0, 0.0, 1.0]


def test_fine_pruning_names_what_it_could_prune(digits: ImageData, model: nn.Module) -> None:
    with pytest.raises(UnknownName, match=r"body\.stem"):
        remove(model, digits, FinePruning(layer="body.stemm"))
    with pytest.raises(
        ModelUnsuitable, match=r"Name one of body\.stem\.0, body\.stem\.1"
    ) as caught:
        remove(model, digits, FinePruning(layer="body.pool"))
    assert "Sequential" in str(caught.value)


def test_too_few_images_to_hold_any_out(digits: ImageData, model: nn.Module) -> None:
    for method in ("fine-pruning", "anp"):
        with pytest.raises(InvalidInput, match="cannot be held out"):
            remove(model, digits.subset([0, 1]), method)


def test_strongest_stays_within_the_budget(digits: ImageData) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    labels = torch.zeros(24, dtype=torch.int64)
    data = ImageData(digits.images, labels, digits.classes)
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(F.one_hot(torch.tensor(0), 10).float())

    def change(strength: float) -> None:
        model[1].bias[1] += strength

    choice = strongest(model, data, [0.5, 0.9, 1.1, 0.2], change, budget=0.3)
    assert choice.curve == [(0.5, 1.0), (0.9, 1.0), (1.1, 0.0)]
    assert (choice.strength, choice.accuracy_before, choice.accuracy) == (0.9, 1.0, 1.0)
    assert float(model[1].bias[1].detach()) == pytest.approx(0.9)
    choice = strongest(model, data, [5.0], change, budget=0.3)
    assert choice.strength is None
    assert float(model[1].bias[1].detach()) == pytest.approx(0.9)


def test_masks_multiply_and_noise_disturbs() -> None:
    """On a BatchNorm by hand: (w (m + d)) x + b (1 + e)."""
    norm = nn.BatchNorm1d(2, eps=0.0).eval()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([2.0, 3.0]))
        norm.bias.copy_(torch.tensor([1.0, -1.0]))
    masked = NeuronMasks(nn.Sequential(nn.Flatten(), norm)).eval()
    images = torch.tensor([[[[1.0]], [[10.0]]]])
    assert masked(images).tolist() == [[3.0, 29.0]]
    with torch.no_grad():
        masked.masks[0].copy_(torch.tensor([0.5, 0.0]))
    assert masked(images).tolist() == [[2.0, -1.0]]
    noise = {"1": (torch.tensor([0.5, 0.1]), torch.tensor([0.0, 1.0]))}
    assert masked(images, noise).tolist() == [[3.0, pytest.approx(1.0)]]
    assert norm.weight.tolist() == [2.0, 3.0]


def test_pruned_neurons_lose_their_scale_and_keep_their_bias() -> None:
    norm = nn.BatchNorm2d(4)
    nn.init.ones_(norm.bias)
    scores = {"0": torch.tensor([0.0, 0.2, 0.21, 1.0])}
    assert prune_neurons(nn.Sequential(norm), scores, 0.2) == 2
    assert norm.weight.tolist() == [0.0, 0.0, 1.0, 1.0]
    assert norm.bias.tolist() == [1.0] * 4


def test_anp_prunes_what_it_reports(digits: ImageData, model: nn.Module) -> None:
    method = AdversarialNeuronPruning(iterations=6, lr=1.0, batch_size=8, threshold=0.9)
    pruned, result = remove(model, digits, method)
    found = {
        name: (layer.weight == 0).nonzero().flatten().tolist()
        for name, layer in maskable(pruned).items()
        if bool((layer.weight == 0).any())
    }
    assert found == result.details["pruned_neurons"] != {}
    assert sum(map(len, found.values())) == result.details["pruned"] < result.details["neurons"]
    biases = [(m.bias, pruned.get_submodule(n).bias) for n, m in maskable(model).items()]
    assert all(torch.equal(one, other) for one, other in biases)
    assert [entry["phase"] for entry in result.history] == ["masks", "masks"]
    assert {"calm", "disturbed"} <= set(result.history[0])


def test_masked_layers() -> None:
    resnet = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    assert all(isinstance(layer, nn.BatchNorm2d) for layer in maskable(resnet).values())
    assert len(maskable(resnet)) == 9
    plain = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 4), nn.Linear(4, 2))
    assert list(maskable(plain)) == ["0", "2"]
    with pytest.raises(ModelUnsuitable, match="no neurons to mask"):
        maskable(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))


def test_stages_are_the_last_site_of_each_resolution() -> None:
    images = torch.rand(1, 1, 16, 16)
    resnet = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    assert stages(resnet, images) == ["body.stage1", "body.stage2", "body.stage3"]
    assert stages(resnet, images, 2) == ["body.stage2", "body.stage3"]
    vgg = create("vgg11-bn", classes=10, input_shape=(1, 16, 16), width=4)
    assert stages(vgg, images) == ["body.stage2", "body.stage3", "body.stage4"]


def test_a_convolution_and_its_normalisation() -> None:
    """Only a BatchNorm that takes the very output of a convolution follows it."""

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(2)
            self.conv = nn.Conv2d(2, 2, 1)
            self.other = nn.BatchNorm2d(2)

        def forward(self, images: Tensor) -> Tensor:
            maps: Tensor = self.conv(images)
            return self.other(maps.relu()) + self.norm(maps)

    assert followers(Odd(), torch.rand(1, 2, 4, 4)) == {"conv": "norm"}
    preact = create("wrn-16-1", classes=10, input_shape=(1, 16, 16))
    pairs = followers(preact, torch.rand(1, 1, 16, 16))
    assert pairs.pop("body.stem") == "body.stage1.0.norm1"
    assert len(pairs) == 6
    assert all(conv == norm.replace("norm2", "conv1") for conv, norm in pairs.items())
