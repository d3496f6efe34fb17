"""Predictions and accuracy: modes, batches, devices' dtypes, and refusals."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import accuracy, evaluating, expected_calibration_error, predict


@dataclass
class Source:
    images: Tensor
    labels: Tensor
    name: str = "source"

    @property
    def num_classes(self) -> int:
        return int(self.labels.max()) + 1

    def __len__(self) -> int:
        return len(self.labels)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        return self.images[indices], self.labels[indices]


class Brightness(nn.Module):
    """Logits (1 - mean, mean): class 1 for bright images."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([1 - mean, mean], 1)


def source() -> Source:
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    images[2:] = 255
    return Source(images, torch.tensor([0, 1, 1, 1]))


def test_accuracy_by_hand():
    assert accuracy(Brightness(), source()) == 0.75


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
def test_predict_does_not_depend_on_the_batch_size(batch_size):
    expected = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 1.0]] * 2)
    logits = predict(Brightness(), source(), batch_size=batch_size)
    assert torch.equal(logits, expected)
    assert logits.dtype == torch.float32
    assert torch.equal(predict(Brightness(), source().images / 255, batch_size=batch_size), logits)


def test_every_module_keeps_its_mode_even_on_error():
    model = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(), Brightness())
    model.train()
    model[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    predict(model, source())
    assert [module.training for module in model.modules()] == [True, False, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(InvalidInput, match="stop"), evaluating(model):  # noqa: PT012
        assert not any(module.training for module in model.modules())
        raise InvalidInput("stop")
    assert [module.training for module in model.modules()] == [True, False, True, True]


def test_logits_can_be_used_in_a_loss():
    logits = predict(Brightness(), source())
    weight = torch.ones(2, requires_grad=True)
    (logits * weight).sum().backward()
    assert torch.equal(weight.grad, torch.tensor([2.0, 2.0]))


def test_bf16_is_close_to_fp32():
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    images = torch.rand(8, 1, 8, 8)
    fp32, bf16 = predict(model, images), predict(model, images, precision="bf16")
    assert bf16.dtype == torch.float32
    assert not torch.equal(fp32, bf16)
    torch.testing.assert_close(fp32, bf16, atol=0.05, rtol=0)


class Broken(nn.Module):
    def __init__(self, answer):
        super().__init__()
        self.answer = answer

    def forward(self, images: Tensor):
        return self.answer(images)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda x: torch.full((len(x), 2), math.nan), "NaN or infinity"),
        (lambda x: torch.full((len(x), 2), math.inf), "NaN or infinity"),
        (lambda x: x, r"answered \(4, 1, 8, 8\)"),
        (lambda x: torch.zeros(1, 2), r"answered \(1, 2\) for a batch of 4"),
        (lambda x: (torch.zeros(len(x), 2),), "answered tuple"),
    ],
)
def test_useless_outputs_are_refused(answer, message):
    with pytest.raises(ModelUnsuitable, match=message):
        predict(Broken(answer), source())


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.zeros(0, 1, 8, 8), {}, "no images"),
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), {}, "images are torch.uint8"),
        (torch.zeros(2), {}, "float images"),
        (torch.zeros(2, 1, 8, 8), {"batch_size": 0}, "batch_size is 0"),
        (torch.zeros(2, 1, 8, 8), {"precision": "fp8"}, "precision is 'fp8'"),
    ],
)
def test_bad_input_is_refused(images, options, message):
    with pytest.raises(InvalidInput, match=message):
        predict(Brightness(), images, **options)


def test_calibration_error_by_hand():
    # Confidences 0.8, 0.8 (one right) in the 12th of 15 bins and 0.6 (right) in the 9th:
    # (2/3) |0.5 - 0.8| + (1/3) |1 - 0.6| = 1/3.
    logits = torch.tensor([[0.8, 0.2], [0.8, 0.2], [0.4, 0.6]]).log()
    labels = torch.tensor([0, 1, 1])
    assert expected_calibration_error(logits, labels) == pytest.approx(1 / 3, abs=1e-6)
    # In one bin: |2/3 - (0.8 + 0.8 + 0.6) / 3| = 1/15.
    assert expected_calibration_error(logits, labels, bins=1) == pytest.approx(1 / 15, abs=1e-6)


def test_calibration_of_a_certain_model():
    sure = torch.tensor([[1e4, 0.0], [0.0, 1e4]])
    assert expected_calibration_error(sure, torch.tensor([0, 1])) == 0
    assert expected_calibration_error(sure, torch.tensor([1, 0])) == 1


@pytest.mark.parametrize(
    ("shape", "count", "bins"), [((0, 2), 0, 15), ((2, 2), 3, 15), ((2,), 2, 15), ((2, 2), 2, 0)]
)
def test_calibration_refuses_what_does_not_fit(shape, count, bins):
    with pytest.raises(InvalidInput):
        expected_calibration_error(
            torch.zeros(shape), torch.zeros(count, dtype=torch.long), bins=bins
        )
