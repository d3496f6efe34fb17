"""All problems of a model, found at once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from doorward.errors import ModelUnsuitable
from doorward.models import check_model, create, require_model


def small(classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, classes))


def whats(model: nn.Module, **arguments: object) -> list[str]:
    return [problem.what for problem in check_model(model, **arguments)]


def test_a_sound_model_has_no_problems_and_keeps_its_mode() -> None:
    model = create("resnet8", classes=3, width=4).train()
    running = model.body.stem[1].running_mean.clone()
    assert check_model(model, classes=["a", "b", "c"]) == []
    assert check_model(small(), input_shape=(3, 2, 2), classes=3) == []
    assert check_model(small()) == []  # no shape known: weights and head only
    assert model.training
    assert torch.equal(model.body.stem[1].running_mean, running)
    require_model(model)


def test_problems_are_collected() -> None:
    model = small(4)
    with torch.no_grad():
        model[1].weight[0, :2] = torch.nan
        model[1].bias[1] = torch.inf
    assert whats(model, input_shape=(3, 2, 2), classes=3) == [
        "1.weight holds 2 NaN or infinite value(s) of 48",
        "1.bias holds 1 NaN or infinite value(s) of 4",
        "the model has 4 outputs for 3 classes",
    ]
    with pytest.raises(ModelUnsuitable) as error:
        require_model(model, input_shape=(3, 2, 2), classes=3)
    message = str(error.value)
    assert "3 problem(s)" in message
    assert "(1) 1.weight" in message
    assert "(2) 1.bias" in message
    assert "(3) the model has 4 outputs" in message
    assert "\n" not in message


def test_nan_statistics_are_named() -> None:
    model = create("resnet8", classes=3, width=4)
    model.body.stem[1].running_var[0] = torch.nan
    assert whats(model) == ["body.stem.1.running_var holds 1 NaN or infinite value(s) of 4"]


def test_no_head() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 2), nn.Flatten())
    assert whats(model, input_shape=(3, 2, 2)) == ["there is no head"]
    assert whats(model, input_shape=(3, 2, 2), head=False) == []


@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 2, 2)])
def test_wrong_size_or_channels(shape: tuple[int, int, int]) -> None:
    (problem,) = check_model(small(), input_shape=shape)
    assert problem.what == f"the model fails on images (3, {', '.join(map(str, shape))})"
    assert problem.why.startswith("RuntimeError")
    (problem,) = check_model(create("resnet8", classes=3, width=4), input_shape=(1, 28, 28))
    assert problem.what == "the model takes images (3, 32, 32)"


class Answer(nn.Module):
    def __init__(self, make: object) -> None:
        super().__init__()
        self.head, self.make = nn.Linear(2, 2), make

    def forward(self, images: Tensor) -> object:
        return self.make(images)


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda x: {"logits": x}, "the model returns a dict"),
        (lambda x: x, "the model answers 3 images with shape (3, 3, 2, 2)"),
        (lambda x: x.flatten()[None], "the model answers 3 images with shape (1, 36)"),
        (lambda x: x.flatten(1) / 0, "its answers on random images are NaN or infinite"),
        (
            lambda x: x.flatten(1) - x.flatten(1).mean(0),
            "its answer on an image depends on the other images of the batch",
        ),
    ],
)
def test_unusable_answers(make: object, what: str) -> None:
    assert whats(Answer(make), input_shape=(3, 2, 2)) == [what]


def test_batch_statistics_in_evaluation_mode_are_a_problem() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), small())
    assert "depends on the other images" in whats(model, input_shape=(3, 2, 2))[0]
