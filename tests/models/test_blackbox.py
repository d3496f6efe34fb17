"""Modules, functions and whatever else answers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import CallableBox, HttpBox, ModuleBox, as_black_box, create
from doorward.models.answers import Scores, to_labels


def test_a_module_in_batches_is_the_module_at_once_and_keeps_its_mode() -> None:
    model = create("resnet8", classes=4, width=4)
    images = torch.rand(7, 3, 32, 32)
    box = ModuleBox(model, batch_size=3)
    labels = box.labels(images)
    assert model.training
    model.eval()
    assert torch.equal(labels, model(images).argmax(1))
    assert (labels.dtype, box.num_classes) == (torch.int64, 4)
    assert box.labels(images[:0]).shape == (0,)
    assert box.describe()["architecture"] == "resnet8"
    labels += 1  # an ordinary tensor, not one of inference mode
    with pytest.raises(InvalidInput, match="batch_size"):
        ModuleBox(model, batch_size=0)


def test_a_foreign_module_shows_its_classes_when_it_answers() -> None:
    box = ModuleBox(nn.Sequential(nn.Flatten(), nn.Linear(12, 5)).double())
    assert box.num_classes is None
    assert box.labels(torch.rand(2, 3, 2, 2)).shape == (2,)
    assert box.num_classes == 5
    with pytest.raises(ModelUnsuitable, match="shape"):
        ModuleBox(nn.Identity()).labels(torch.rand(2, 3, 2, 2))


@pytest.mark.parametrize(
    "answer",
    [
        torch.tensor([2, 0]),
        torch.tensor([2, 0], dtype=torch.uint8),
        np.array([2, 0]),
        [2, 0],
        torch.tensor([[0.0, 1.0, 2.0], [3.0, 1.0, 2.0]]),
        np.array([[0, 1, 2], [3, 1, 2]]),
        [[0.1, 0.1, 0.8], [0.9, 0.05, 0.05]],
    ],
)
def test_functions_answer_in_many_forms(answer: object) -> None:
    box = CallableBox(lambda images: answer, num_classes=3)
    assert box.labels(torch.rand(2, 3, 4, 4)).tolist() == [2, 0]
    assert box.labels(torch.rand(0, 3, 4, 4)).tolist() == []
    assert box.num_classes == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (torch.tensor([3, 0]), "3 is no class"),
        (torch.tensor([-1, 0]), "-1 is no class"),
        (torch.tensor([0]), "shape"),
        (torch.tensor([0.5, 1.5]), "integer labels"),
        (torch.tensor([True, False]), "integer labels"),
        (torch.tensor([[0.0, torch.nan, 1.0]] * 2), "NaN"),
        (torch.zeros(2, 4), "4 columns for 3 classes"),
        (torch.zeros(2, 0), "shape"),
        (None, "NoneType"),
        ("cat", "str"),
        ([[1, 2], [3]], "list"),
        (10**40, "int"),
    ],
)
def test_answers_that_are_none(answer: object, words: str) -> None:
    with pytest.raises(ModelUnsuitable, match=words):
        CallableBox(lambda images: answer, num_classes=3).labels(torch.rand(2, 3, 4, 4))


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 4, 4, dtype=torch.uint8), "divide bytes by 255"),
        (torch.rand(3, 4, 4), "shape"),
        (np.zeros((2, 3, 4, 4)), "ndarray"),
        (torch.full((2, 3, 4, 4), 1.5), "span 1.5 to 1.5"),
        (torch.full((2, 3, 4, 4), -0.1), "span"),
        (torch.full((2, 3, 4, 4), torch.nan), "nan"),
    ],
)
def test_images_outside_pixel_space_are_refused(images: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=f"(?i){words}"):
        CallableBox(lambda images: torch.zeros(2)).labels(images)


@given(st.lists(st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4), min_size=1, max_size=5))
def test_logits_become_the_index_of_their_maximum(rows: list[list[float]]) -> None:
    found = to_labels(torch.tensor(rows, dtype=torch.float64), len(rows)).tolist()
    assert all(row[label] == max(row) for row, label in zip(rows, found, strict=True))


def test_anything_becomes_a_black_box() -> None:
    model = create("resnet8", classes=3, width=4)
    assert isinstance(as_black_box(model), ModuleBox)
    box = as_black_box(lambda images: torch.zeros(len(images), 2))
    assert isinstance(box, CallableBox)
    assert as_black_box(box) is box
    http = as_black_box("http://127.0.0.1:9/v2/models/m")
    assert isinstance(http, HttpBox)
    assert as_black_box(http) is http  # without asking the server anything
    for wrong in ("model.pt", 3, None, "ftp://host/v2/models/m"):
        with pytest.raises(InvalidInput, match="is no black box"):
            as_black_box(wrong)


def test_a_module_that_fails_on_the_images_is_unsuitable():
    """A foreign module says its own words about a wrong size; they become one clear error."""
    box = ModuleBox(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)))
    with pytest.raises(ModelUnsuitable, match=r"fails on images \(2, 1, 16, 16\)"):
        box.labels(torch.rand(2, 1, 16, 16))


def test_unsigned_64_bit_labels_are_labels():
    assert to_labels(torch.tensor([1, 2], dtype=torch.uint64), 2).tolist() == [1, 2]
    with pytest.raises(ModelUnsuitable, match="no class"):
        to_labels(torch.tensor([1, 2**63], dtype=torch.uint64), 2)


def test_probabilities_of_a_module_are_its_softmax_in_any_batches() -> None:
    model = create("resnet8", classes=4, width=4)
    images = torch.rand(7, 3, 32, 32)
    found = ModuleBox(model, batch_size=3).probabilities(images)
    assert torch.allclose(found, model.eval()(images).softmax(1), atol=1e-6)
    assert (found.dtype, found.device.type) == (torch.float32, "cpu")
    assert ModuleBox(model).probabilities(images[:0]).shape == (0, 4)
    assert ModuleBox(model).input_shape == (3, 32, 32)
    assert ModuleBox(nn.Flatten()).input_shape is None
    found += 1  # an ordinary tensor, not one of inference mode
    ended = nn.Sequential(model, nn.Softmax(1))  # a foreign module that softens by itself
    assert torch.allclose(ModuleBox(ended).probabilities(images), found - 1, atol=1e-6)


def test_a_module_in_doubt_gives_logits() -> None:
    small = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    nn.init.constant_(small[1].weight, 0.0)
    nn.init.constant_(small[1].bias, 0.25)
    assert ModuleBox(small).probabilities(torch.rand(1, 3, 1, 1)).tolist() == [[0.5, 0.5]]
    box = ModuleBox(small, outputs="probabilities")
    assert box.probabilities(torch.rand(1, 3, 1, 1)).tolist() == [[0.25, 0.25]]


IN_DOUBT, LOGITS, CHANCES = [[0.25, 0.25]], [[0.0, 2.0]], [[0.25, 0.75]]


def test_logits_and_probabilities_are_told_apart_by_their_values() -> None:
    expected = torch.tensor(LOGITS).softmax(1)
    scores = Scores()
    assert torch.allclose(scores.probabilities(LOGITS, 1), expected)
    assert scores.probabilities(IN_DOUBT, 1).tolist() == [[0.5, 0.5]]  # known by now
    assert torch.allclose(scores.probabilities(CHANCES, 1), torch.tensor(CHANCES).softmax(1))
    scores = Scores()
    assert scores.probabilities(CHANCES, 1).tolist() == CHANCES
    assert scores.probabilities(IN_DOUBT, 1).tolist() == IN_DOUBT
    with pytest.raises(ModelUnsuitable, match=r"span 0 to 2.*outputs=\"logits\""):
        scores.probabilities(LOGITS, 1)
    with pytest.raises(ModelUnsuitable, match=r"could be logits.*Declare outputs"):
        Scores().probabilities(IN_DOUBT, 1)
    with pytest.raises(InvalidInput, match="'odds' is unknown"):
        Scores("odds")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ([1, 0], "labels only"),
        (torch.tensor([1, 0]), "labels only"),
        (torch.tensor([0.5, 1.5]), "shape"),
        ([[0.0, float("nan")]] * 2, "NaN"),
        ([[0.5, 0.5, 0.0]] * 2, "3 columns for 2"),
        ("cat", "str"),
    ],
)
def test_probabilities_that_are_none(answer: object, words: str) -> None:
    with pytest.raises(ModelUnsuitable, match=words):
        CallableBox(lambda images: answer, num_classes=2).probabilities(torch.rand(2, 3, 4, 4))


@given(
    st.lists(st.lists(st.floats(-50, 50, width=32), min_size=3, max_size=3), min_size=1, max_size=4)
)
def test_declared_logits_become_rows_that_sum_to_one(rows: list[list[float]]) -> None:
    found = Scores("logits").probabilities(rows, len(rows))
    assert torch.allclose(found.sum(1), torch.ones(len(rows)), atol=1e-6)
    again = Scores().probabilities(found, len(rows))  # and are recognised as probabilities
    assert torch.equal(again, found)
