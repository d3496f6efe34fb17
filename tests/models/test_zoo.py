"""Every architecture, at every size and channel count, in every way it is used."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doorward.errors import InvalidInput, UnknownName
from doorward.models import ARCHITECTURES, Classifier, create
from doorward.models.zoo.creation import _initialise

NAMES = ARCHITECTURES.names()
LIGHT = [name for name in NAMES if ARCHITECTURES.facts(name)["parameters"] < 8e6]
"""At least one of each family but VGG, for the slower checks."""
ASKED_FOR = {
    "resnet8", "resnet20", "resnet18", "resnet34", "preact-resnet18", "wrn-16-1", "wrn-28-10",
    "vgg11-bn", "vgg16-bn", "mobilenetv2", "densenet121", "nin", "squeezenet", "shufflenetv2",
    "efficientnet-b0", "convnext-atto", "vit-small",
}  # fmt: skip
SIZES = [(16, 16), (17, 17), (28, 28), (32, 32), (33, 33), (48, 48), (64, 64), (16, 33), (40, 24)]


def test_the_architectures_that_were_asked_for_exist() -> None:
    assert set(NAMES) >= ASKED_FOR
    assert len(NAMES) >= 16


@pytest.mark.parametrize("name", NAMES)
def test_every_size_and_channel_count_gives_features(name: str) -> None:
    large = ARCHITECTURES.facts(name)["parameters"] > 20e6
    for size in SIZES[:4] if large else SIZES:
        for channels in (1, 3):
            with torch.device("meta"):
                body = ARCHITECTURES[name](channels, size).eval()
            for tensor in body.to_empty(device="cpu").state_dict().values():
                tensor.zero_()  # shapes only: drawing weights would take most of the time
            with torch.inference_mode():
                features = body(torch.zeros(1, channels, *size))
            assert features.shape == (1, body.out_features), (size, channels)


@pytest.mark.parametrize("name", NAMES)
def test_forward_backward_and_a_small_odd_grey_image(name: str) -> None:
    model = create(name, classes=4, input_shape=(1, 17, 17), seed=3)
    images = torch.rand(2, 1, 17, 17, generator=torch.Generator().manual_seed(0))
    logits = model(images)
    assert logits.shape == (2, 4)
    logits.square().sum().backward()
    for weight, parameter in model.named_parameters():
        assert parameter.grad is not None, weight
        assert parameter.grad.isfinite().all(), weight
    model.eval()
    with torch.no_grad():
        assert torch.allclose(model(images), model.head(model.features(images)), atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_autocast_and_channels_last_agree_with_plain_fp32(name: str) -> None:
    model = create(name, classes=3, input_shape=(3, 16, 16)).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        plain = model(images)
        model.to(memory_format=torch.channels_last)
        turned = model(images.to(memory_format=torch.channels_last))
        with torch.autocast("cpu", torch.bfloat16):
            half = model(images.to(memory_format=torch.channels_last))
    scale = plain.abs().max()
    assert torch.allclose(plain, turned, atol=float(1e-4 * scale + 1e-6))
    assert (half.float() - plain).abs().max() <= 0.1 * scale


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_complete_and_true(name: str) -> None:
    facts = ARCHITECTURES.facts(name)
    assert set(facts) == {"parameters", "paper", "year"}
    assert str(facts["year"]) in facts["paper"]
    assert ARCHITECTURES.summary(name).endswith(".")
    with torch.device("meta"):
        body = ARCHITECTURES[name](3, (32, 32))
        counted = [*body.parameters(), *nn.Linear(body.out_features, 10).parameters()]
    assert facts["parameters"] == sum(parameter.numel() for parameter in counted)


@pytest.mark.parametrize("name", LIGHT)
def test_nothing_is_left_uninitialised(name: str) -> None:
    model = create(name, classes=3, input_shape=(1, 16, 16))
    with torch.no_grad():
        for tensor in [*model.parameters(), *model.buffers()]:
            if tensor.is_floating_point():
                tensor.fill_(torch.nan)
    model._mean.fill_(0.5)
    model._std.fill_(0.25)
    _initialise(model, 0)
    for key, tensor in model.state_dict().items():
        assert tensor.isfinite().all(), key
    for key, tensor in create(name, classes=3, input_shape=(1, 16, 16)).state_dict().items():
        assert torch.equal(tensor, model.state_dict()[key]), key


def test_creation_is_seeded_and_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (create("wrn-16-1", classes=3, seed=seed) for seed in (5, 5, 6))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert torch.equal(first.body.stem.weight, again.body.stem.weight)
    assert not torch.equal(first.body.stem.weight, other.body.stem.weight)


def test_he_initialisation_has_the_variance_of_the_paper() -> None:
    weight = create("resnet18", classes=10).body.stage4[1].conv1[0].weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


def test_compiles_without_graph_breaks() -> None:
    model = create("resnet8", classes=3, input_shape=(3, 16, 16), width=4).eval()
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    images = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        assert torch.allclose(compiled(images), model(images), atol=1e-6)


@pytest.mark.parametrize(
    "name",
    [
        name
        if name in {"wrn-16-1", "shufflenetv2", "vit-tiny", "convnext-atto"}
        else pytest.param(name, marks=pytest.mark.slow)
        for name in LIGHT
    ],
)
def test_exports_with_a_dynamic_batch(name: str) -> None:
    model = create(name, classes=3, input_shape=(3, 17, 17)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        model, (torch.rand(2, 3, 17, 17),), dynamic_shapes=({0: batch},), strict=False
    )
    assert program.module()(torch.rand(5, 3, 17, 17)).shape == (5, 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"architecture": "resnet9"}, "Did you mean 'resnet8'"),
        ({"input_shape": (3, 15, 32)}, "at least 16 pixels"),
        ({"input_shape": (2, 32, 32)}, "1 or 3 channels"),
        ({"input_shape": (32, 32)}, "(channels, height, width)"),
        ({"input_shape": (3, 32.0, 32)}, "(channels, height, width)"),
        ({"classes": 1}, "two or more"),
        ({"classes": ["a", "b", "a"]}, "'a' is given twice"),
        ({"classes": "digits"}, "is the string 'digits'"),
        ({"classes": ["a", ""]}, "not a non-empty string"),
        ({"mean": (0.5,)}, "3 channel"),
        ({"mean": (0.5, 0.5, float("nan"))}, "not finite"),
        ({"std": (0.2, 0.2, 0.0)}, "not positive"),
        ({"depth": 3}, "width=32"),
        ({"width": 0}, "1 to 4096"),
        ({"width": 8.5}, "1 to 4096"),
        ({"width": True}, "1 to 4096"),
        ({"architecture": "nin", "dropout": 1.0}, "in [0, 1)"),
        ({"architecture": "nin", "dropout": "half"}, "in [0, 1)"),
        ({"architecture": "mobilenetv2", "width": 2}, "none"),
        ({"architecture": "vit-tiny", "heads": 5}, "no multiple of 5 heads"),
        ({"architecture": "vit-tiny", "patch": 64}, "larger than the image"),
    ],
)
def test_bad_requests_are_refused_with_a_reason(arguments: dict, words: str) -> None:
    with pytest.raises(InvalidInput, match=r".") as error:
        create(**{"architecture": "resnet8", "classes": 10, **arguments})
    assert words in str(error.value)
    if arguments.get("architecture") == "resnet9":
        assert isinstance(error.value, UnknownName)


def test_images_of_another_shape_or_type_are_refused() -> None:
    model = create("resnet8", classes=3, width=4)
    with pytest.raises(InvalidInput, match=r"\(2, 1, 32, 32\).*takes \(N, 3, 32, 32\)"):
        model(torch.rand(2, 1, 32, 32))
    with pytest.raises(InvalidInput, match="takes"):
        model(torch.rand(3, 32, 32))
    with pytest.raises(InvalidInput, match="Divide bytes by 255"):
        model(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))


def test_normalisation_is_inside_and_is_not_a_weight() -> None:
    model = create("resnet8", classes=3, width=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 1.0)).eval()
    plain = create("resnet8", classes=3, width=4, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    images = torch.rand(2, 3, 32, 32)
    shifted = (images - torch.tensor([0.1, 0.2, 0.3]).view(3, 1, 1)) / torch.tensor(
        [0.5, 0.5, 1.0]
    ).view(3, 1, 1)
    assert torch.allclose(model(images), plain(shifted), atol=1e-5)
    assert not any("mean" in key and "running" not in key for key in model.state_dict())


def test_a_classifier_refuses_a_head_that_does_not_fit() -> None:
    with pytest.raises(InvalidInput, match="3 outputs for 2 classes"):
        Classifier(nn.Flatten(), nn.Linear(768, 3), classes=["a", "b"], input_shape=(3, 16, 16))


def test_a_classifier_describes_itself() -> None:
    model = create("resnet8", classes=["a", "b"], width=4)
    assert "architecture='resnet8', input_shape=(3, 32, 32), num_classes=2" in repr(model)
    assert model.options == {"width": 4}


def test_an_input_shape_may_be_a_list() -> None:
    body = nn.Sequential(nn.Flatten())
    model = Classifier(body, nn.Linear(12, 2), classes=["a", "b"], input_shape=[3, 2, 2])
    assert model(torch.rand(1, 3, 2, 2)).shape == (1, 2)
