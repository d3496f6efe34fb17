"""Objectives that imitate: losses by hand, look-up by position, resumption, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import Augment, Batch, ImageData, load
from doorward.errors import InvalidInput, TrainingInterrupted
from doorward.extraction import Distillation, LiveDistillation, answers_of
from doorward.extraction.distillation import imitation_loss
from doorward.metrics import accuracy, predict
from doorward.models import create
from doorward.training import Recipe, fit


class Fixed(nn.Module):
    """Answers with the logits it was given."""

    def __init__(self, logits: list[list[float]]) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits[: len(images)]


def batch_of(indices: list[int], labels: list[int] | None = None) -> Batch:
    count = len(indices)
    return Batch(
        images=torch.zeros(count, 1, 2, 2),
        labels=torch.tensor(labels or [0] * count),
        indices=torch.tensor(indices),
        step=0,
        epoch=0,
        size_global=count,
    )


def test_soft_answers_are_looked_up_and_the_loss_is_the_divergence() -> None:
    answers = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.25, 0.75]])
    model = Fixed([[0.0, 0.0], [0.0, math.log(3)]])  # probabilities 1/2, 1/2 and 1/4, 3/4
    loss, scalars = Distillation(answers)(model, batch_of([0, 2]))
    assert loss.item() == pytest.approx((math.log(2) + 0) / 2)
    assert scalars["agreement"].item() == 1.0
    loss.backward()
    assert torch.allclose(model.logits.grad, torch.tensor([[-0.25, 0.25], [0.0, 0.0]]))


def test_labels_are_learnt_by_cross_entropy() -> None:
    objective = Distillation(torch.tensor([1, 0, 1]))
    loss, scalars = objective(Fixed([[0.0, math.log(3)]] * 2), batch_of([0, 1]))
    assert loss.item() == pytest.approx((math.log(4 / 3) + math.log(4)) / 2)
    assert scalars["agreement"].item() == 0.5


def test_cut_answers_count_as_they_are() -> None:
    loss, _ = imitation_loss(torch.zeros(1, 4), torch.tensor([[0.5, 0.25, 0.0, 0.0]]))
    by_hand = 0.5 * math.log(0.5 * 4) + 0.25 * math.log(0.25 * 4)
    assert loss.item() == pytest.approx(by_hand)
    assert imitation_loss(torch.zeros(1, 2), torch.zeros(1, 2))[0].item() == 0
    hot, _ = imitation_loss(torch.zeros(1, 2), torch.zeros(1, 2), temperature=4.0)
    assert hot.item() == 0


def test_temperature_softens_both_sides() -> None:
    logits, teacher = torch.tensor([[2.0, -1.0]]), torch.tensor([[0.5, 1.5]])
    cached, _ = imitation_loss(logits, teacher.softmax(1), temperature=3.0)
    p, q = (teacher / 3).softmax(1)[0], (logits / 3).softmax(1)[0]
    assert cached.item() == pytest.approx(9 * (p * (p / q).log()).sum().item(), rel=1e-5)
    live = LiveDistillation(Fixed(teacher.tolist()), temperature=3.0)
    assert live(Fixed(logits.tolist()), batch_of([0]))[0].item() == pytest.approx(cached.item())


def test_alpha_mixes_in_the_labels() -> None:
    teacher, student = Fixed([[0.0, 0.0]]), Fixed([[0.0, math.log(3)]])
    whole, scalars = LiveDistillation(teacher)(student, batch_of([0], [1]))
    half, _ = LiveDistillation(teacher, alpha=0.5)(student, batch_of([0], [1]))
    labels, _ = LiveDistillation(teacher, alpha=0.0)(student, batch_of([0], [1]))
    assert labels.item() == pytest.approx(math.log(4 / 3))
    assert half.item() == pytest.approx((whole.item() + labels.item()) / 2)
    assert scalars["agreement"].item() == 0.0


def test_the_teacher_is_neither_changed_nor_followed() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 2)).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    objective = LiveDistillation(teacher)
    student = Fixed([[0.5, 0.0]])
    first, _ = objective(student, batch_of([0]))
    with torch.no_grad():
        teacher[2].bias += 5.0
    second, _ = objective(student, batch_of([0]))
    assert torch.equal(first, second)
    assert teacher.training
    assert teacher[2].weight.requires_grad
    assert torch.equal(teacher[1].running_mean, before["1.running_mean"])
    student.logits.grad = None
    second.backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("live", [False, True])
def test_students_come_to_agree(
    live: bool, victim: nn.Module, pool: ImageData, test_images: ImageData
) -> None:
    student = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=1)
    objective = LiveDistillation(victim) if live else Distillation(answers_of(victim, pool))
    recipe = Recipe(epochs=6, batch_size=64, lr=0.1, augment=Augment(pad_crop=1))
    result = fit(student, objective, pool, recipe)
    answers = predict(victim, test_images).argmax(1)
    agreement = (predict(student, test_images).argmax(1) == answers).float().mean()
    assert agreement > 0.9
    assert accuracy(student, test_images) > 0.85
    assert result.final["agreement"] > 0.9


@pytest.mark.parametrize("live", [False, True])
def test_a_killed_training_resumes_only_with_the_same_answers(
    live: bool, victim: nn.Module, tmp_path: Any
) -> None:
    digits = load("digits", size=16).sample(64, seed=0)
    recipe = Recipe(epochs=2, batch_size=32)

    def objective(other: bool) -> Any:
        if live:
            teacher = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=5)
            return LiveDistillation(teacher if other else victim)
        answers = answers_of(victim, digits)
        return Distillation(answers.flip(1) if other else answers)

    def train(other: bool, stop: bool = False) -> Any:
        model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)

        def on_epoch(entry: dict[str, Any]) -> None:
            if stop:
                raise TrainingInterrupted("stopped")

        fit(model, objective(other), digits, recipe, checkpoint=tmp_path, on_epoch=on_epoch)
        return model.head.weight.detach().clone()

    with pytest.raises(TrainingInterrupted):
        train(False, stop=True)
    with pytest.raises(InvalidInput, match="another teacher" if live else "other answers"):
        train(True)
    resumed = train(False)
    assert torch.equal(resumed, train(False))  # and what is finished is not done again


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Distillation(torch.rand(3)), "shape"),
        (lambda: Distillation(torch.zeros(3, 2, dtype=torch.int64)), "shape"),
        (lambda: Distillation(torch.zeros(0, 2)), "shape"),
        (lambda: Distillation(torch.tensor([[-1.0, 2.0]])), "softmax of logits"),
        (lambda: Distillation(torch.tensor([[math.nan, 2.0]])), "non-finite"),
        (lambda: Distillation(torch.tensor([-1, 2])), "negative"),
        (lambda: Distillation(torch.tensor([1]), temperature=0), "temperature"),
        (lambda: LiveDistillation(nn.Flatten(), temperature=-1), "temperature"),
        (lambda: LiveDistillation(nn.Flatten(), alpha=1.5), "alpha"),
    ],
)
def test_bad_answers_are_refused_at_once(make: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()


def test_a_student_with_other_classes_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"student has 3 classes.*for 2"):
        Distillation(torch.ones(1, 2))(Fixed([[0.0, 0.0, 0.0]]), batch_of([0]))
