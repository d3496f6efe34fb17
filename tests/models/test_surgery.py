"""Heads, features and sites of zoo models and of foreign ones."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.models import (
    capture,
    create,
    evaluating,
    features,
    find_head,
    replace_head,
    site,
    sites,
)


class Odd(nn.Module):
    """A foreign model whose head is registered first and runs last."""

    def __init__(self) -> None:
        super().__init__()
        self.classify = nn.Linear(4, 3)
        self.flat = nn.Flatten()
        self.hidden = nn.Linear(8, 4)
        self.unused = nn.Linear(4, 7)

    def forward(self, images: Tensor) -> Tensor:
        return self.classify(self.hidden(self.flat(images)).relu())


@pytest.mark.parametrize("name", ["resnet8", "vit-tiny", "convnext-atto"])
def test_the_head_of_a_zoo_model_is_found_by_name_and_by_running_it(name: str) -> None:
    model = create(name, classes=3, input_shape=(1, 16, 16))
    assert find_head(model) == ("head", model.head)
    wrapped = nn.Sequential(nn.Identity(), model)
    assert find_head(wrapped, images=torch.rand(1, 1, 16, 16)) == ("1.head", model.head)


def test_the_head_of_a_foreign_model_is_the_layer_that_runs_last() -> None:
    model = Odd().train()
    images = torch.rand(2, 2, 2, 2)
    assert find_head(model, images=images)[0] == "classify"
    assert find_head(model)[0] == "unused"  # nothing to run it on: the last one registered
    model.input_shape = (2, 2, 2)
    assert find_head(model) == ("classify", model.classify)
    assert find_head(model, "hidden") == ("hidden", model.hidden)
    assert model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_a_head_that_is_not_there_is_explained() -> None:
    with pytest.raises(UnknownName, match=r"'clasify'. Did you mean 'classify'.*hidden"):
        find_head(Odd(), "clasify")
    with pytest.raises(ModelUnsuitable, match=r"'flat' is a Flatten.*classify, hidden, unused"):
        find_head(Odd(), "flat")
    with pytest.raises(
        ModelUnsuitable, match=r"no nn.Linear among its modules .Conv2d, Sequential"
    ):
        find_head(nn.Sequential(nn.Conv2d(3, 3, 1)))
    with pytest.raises(ModelUnsuitable, match="fails on images"):
        find_head(Odd(), images=torch.rand(1, 3, 5, 5))


def test_features_are_what_the_head_sees() -> None:
    model, images = Odd(), torch.rand(2, 2, 2, 2, requires_grad=True)
    found = features(model, images, "classify")
    assert torch.equal(found, model.hidden(images.flatten(1)).relu())
    assert torch.equal(model.classify(found), model(images))
    found.sum().backward()
    assert images.grad is not None
    assert features(model, images, "hidden").shape == (2, 8)
    with pytest.raises(ModelUnsuitable, match="'unused' does not run"):
        features(model, images, "unused")
    zoo = create("resnet8", classes=3, width=4).eval()
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(features(zoo, images), zoo.body((images - 0.5) / 0.25))


def test_features_find_the_head_by_running_it() -> None:
    model, images = Odd(), torch.rand(2, 2, 2, 2)
    assert torch.equal(features(model, images), features(model, images, "classify"))


def test_replacing_a_head() -> None:
    model = create("resnet8", classes=3, width=4)
    old, images = model.head, torch.rand(2, 3, 32, 32)
    assert replace_head(model, nn.Linear(16, 3)) is old
    assert model.head is not old
    with pytest.raises(InvalidInput, match="takes 8 features: the model makes 16"):
        replace_head(model, nn.Linear(8, 3))
    with pytest.raises(InvalidInput, match="5 outputs for 3 classes"):
        replace_head(model, nn.Linear(16, 5))
    replace_head(model, nn.Linear(16, 5), classes=5)
    assert model(images).shape == (2, model.num_classes)
    assert model.num_classes == 5
    nested = nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(8, 2)))
    replace_head(nested, nn.Linear(8, 9))
    assert nested(torch.rand(1, 2, 2, 2)).shape == (1, 9)


def test_sites_and_captures() -> None:
    model = create("resnet8", classes=3, width=4)
    assert {"body.stem", "body.stage1.0.conv1", "head"} <= set(sites(model))
    assert site(model, "head") is model.head
    with pytest.raises(UnknownName, match=r"no site of this model.*'body.stage4'.*body.stage3"):
        site(model, "body.stage4")
    with pytest.raises(UnknownName):
        site(model, "")
    with capture(model, ["body.stage3", "head"]) as seen:
        first = model(torch.rand(2, 3, 32, 32))
        assert torch.equal(seen["head"], first)
        model(torch.rand(1, 3, 32, 32))
    assert seen["body.stage3"].shape == (1, 16, 8, 8)
    model(torch.rand(4, 3, 32, 32))
    assert len(seen["head"]) == 1  # the hooks are gone
    with pytest.raises(UnknownName), capture(model, ["head", "nose"]):
        pass
    assert not any(module._forward_hooks for module in model.modules())


def test_evaluating_restores_every_mode_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout().eval(), nn.Dropout())
    with pytest.raises(UnknownName), evaluating(model):
        site(model, "nowhere" if not model[1].training else "0")
    assert [model.training, model[0].training, model[1].training] == [True, False, True]
