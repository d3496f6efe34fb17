"""Is this model fit for use? All problems at once, each with its remedy.

>>> from torch import nn
>>> for problem in check_model(nn.Sequential(nn.Flatten(), nn.ReLU()), input_shape=(1, 16, 16)):
...     print(problem)
there is no head: no nn.Linear is among its modules. End the model in an nn.Linear.

`require_model` raises them as one `ModelUnsuitable`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from doorward.errors import DoorwardError, ModelUnsuitable
from doorward.models.classifier import class_names
from doorward.models.modes import evaluating
from doorward.randomness import generator

__all__ = ["Problem", "check_model", "require_model"]


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a model, in the parts of a `DoorwardError`."""

    what: str
    why: str = ""
    remedy: str = ""

    def __str__(self) -> str:
        return str(DoorwardError(self.what, why=self.why, remedy=self.remedy))


def check_model(
    model: nn.Module,
    *,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | Sequence[str] | None = None,
    head: bool = True,
) -> list[Problem]:
    """Everything that would keep a model from being marked, scanned, traded or served.

    Checked are: finite parameters and buffers (by name); a linear head; and, on three random
    images in evaluation mode, that the model takes the size and channels, answers ``(N, K)`` with
    the right K, finitely, and for each image independently of the others in its batch.

    Args:
        model: any module; its mode is put back afterwards.
        input_shape: ``(C, H, W)``; the model's own `input_shape` if None; without either the
            model is not run.
        classes: how many classes, or their names; the model's own if None, where it has any.
        head: whether an `nn.Linear` head is needed (black-box methods need none).

    Returns:
        The problems, none if the model is fit.
    """
    problems = _weight_problems(model)
    finite = not problems
    if head and not any(isinstance(module, nn.Linear) for module in model.modules()):
        problems.append(
            Problem(
                "there is no head",
                "no nn.Linear is among its modules",
                "end the model in an nn.Linear",
            )
        )
    own_shape = getattr(model, "input_shape", None)
    shape = input_shape or own_shape
    if shape is None:
        return problems
    if own_shape is not None and tuple(own_shape) != tuple(shape):
        problems.append(
            Problem(
                f"the model takes images {tuple(own_shape)}",
                f"the images are {tuple(shape)}",
                "resize the images, or use a model made for them",
            )
        )
        return problems
    images = torch.rand((3, *shape), generator=generator(0, "check images"))
    expected = len(class_names(classes)) if classes is not None else None
    if expected is None:
        own = getattr(model, "num_classes", None)
        expected = own if isinstance(own, int) else None
    problems += _answer_problems(model, images, expected, finite=finite)
    return problems


def require_model(
    model: nn.Module,
    *,
    input_shape: tuple[int, int, int] | None = None,
    classes: int | Sequence[str] | None = None,
    head: bool = True,
) -> None:
    """Raise if `check_model` (same arguments) finds anything.

    Raises:
        ModelUnsuitable: with all problems in one message.
    """
    problems = check_model(model, input_shape=input_shape, classes=classes, head=head)
    if problems:
        listed = " ".join(
            f"({number}) {str(problem).rstrip('.')}." for number, problem in enumerate(problems, 1)
        )
        raise ModelUnsuitable(
            f"this {type(model).__name__} cannot be used, {len(problems)} problem(s)", why=listed
        )


def _weight_problems(model: nn.Module) -> list[Problem]:
    problems = []
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if tensor.is_floating_point() and not (finite := tensor.detach().isfinite()).all():
            wrong = int((~finite).sum())
            problems.append(
                Problem(
                    f"{name} holds {wrong} NaN or infinite value(s) of {tensor.numel()}",
                    remedy="load the weights again, or train with a lower learning rate",
                )
            )
    return problems


def _answer_problems(
    model: nn.Module, images: Tensor, classes: int | None, *, finite: bool
) -> list[Problem]:
    weight = next((tensor for tensor in model.parameters() if tensor.is_floating_point()), None)
    if weight is not None:
        images = images.to(device=weight.device, dtype=weight.dtype)
    with evaluating(model), torch.inference_mode():
        try:
            answers, alone = model(images), model(images[:1])
        except Exception as error:  # foreign code may raise anything
            return [
                Problem(
                    f"the model fails on images {tuple(images.shape)}",
                    f"{type(error).__name__}: {error}".partition("\n")[0],
                    "give the input_shape it was made for",
                )
            ]
    if not isinstance(answers, Tensor):
        return [
            Problem(
                f"the model returns a {type(answers).__name__}",
                "one tensor of logits (N, K) is needed",
                "wrap it in a module that returns the logits alone",
            )
        ]
    if answers.ndim != 2 or len(answers) != len(images):
        return [
            Problem(
                f"the model answers {len(images)} images with shape {tuple(answers.shape)}",
                "logits (N, K) are needed",
            )
        ]
    problems = []
    if classes is not None and answers.shape[1] != classes:
        problems.append(
            Problem(
                f"the model has {answers.shape[1]} outputs for {classes} classes",
                remedy="replace its head (replace_head), or give the classes it was trained on",
            )
        )
    if not answers.isfinite().all():
        if finite:  # otherwise the weights are the cause, and are listed already
            problems.append(Problem("its answers on random images are NaN or infinite"))
    elif not torch.allclose(answers[:1].float(), alone.float(), rtol=1e-2, atol=1e-3):
        problems.append(
            Problem(
                "its answer on an image depends on the other images of the batch",
                "even in evaluation mode",
                "give its BatchNorm layers running statistics",
            )
        )
    return problems
