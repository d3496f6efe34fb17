"""Models that only answer: one interface over modules, functions, ONNX files and HTTP endpoints.

>>> import torch
>>> from doorward.models import create
>>> box = as_black_box(create("resnet8", classes=10, width=4))
>>> box.labels(torch.rand(2, 3, 32, 32)).shape, box.num_classes
(torch.Size([2]), 10)

Black-box methods (ownership verification, model stealing) ask for `labels` and nothing else, so
that they work on whatever a suspect gives access to.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from doorward.errors import DoorwardError, InvalidInput, ModelUnsuitable
from doorward.models.modes import evaluating

__all__ = ["BlackBox", "CallableBox", "ModuleBox", "as_black_box", "check_images", "to_labels"]


class BlackBox(Protocol):
    """A classifier of which only the answers are seen."""

    @property
    def num_classes(self) -> int | None:
        """How many classes it tells apart; None if that is not known (yet)."""

    def labels(self, images: Tensor) -> Tensor:
        """Classes of images.

        Args:
            images: float ``(N, C, H, W)`` in ``[0, 1]``; N may be 0.

        Returns:
            int64 ``(N,)`` on the CPU.
        """

    def describe(self) -> dict[str, Any]:
        """What it is, JSON-ready, for reports; without secrets."""


class ModuleBox:
    """A PyTorch module as a black box.

    Args:
        model: images to logits ``(N, K)``; evaluated in evaluation mode, on its own device.
        batch_size: images per forward pass, a bound on memory.
    """

    def __init__(self, model: nn.Module, batch_size: int = 256) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size {batch_size} is not at least 1")
        self.model, self.batch_size = model, batch_size
        own = getattr(model, "num_classes", None)
        self._num_classes = own if isinstance(own, int) else None

    @property
    def num_classes(self) -> int | None:
        """The model's own count, or what its first answer showed."""
        return self._num_classes

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are not a finite float batch in ``[0, 1]``.
            ModelUnsuitable: the model fails on images of this size, or its answers are no finite
                logits ``(N, K)``.
        """
        check_images(images)
        weight = next((weight for weight in self.model.parameters()), None)
        answers = [torch.empty(0, dtype=torch.int64)]
        with evaluating(self.model), torch.inference_mode():
            for batch in torch.split(images, self.batch_size):
                if not len(batch):
                    continue
                if weight is not None:
                    batch = batch.to(weight.device, weight.dtype)
                logits = self._answer(batch)
                answers.append(to_labels(logits, len(batch)))
                self._num_classes = logits.shape[1] if logits.ndim == 2 else self._num_classes
        return torch.cat(answers).clone()

    def _answer(self, batch: Tensor) -> Any:
        try:
            return self.model(batch)
        except (DoorwardError, torch.OutOfMemoryError):
            raise
        except (RuntimeError, ValueError, TypeError, IndexError) as error:  # foreign code
            raise ModelUnsuitable(
                f"the model fails on images {tuple(batch.shape)}",
                why=f"{type(error).__name__}: {error}".partition("\n")[0][:300],
                remedy="give images of the size and channels that it was made for",
            ) from error

    def describe(self) -> dict[str, Any]:
        """Kind, type, architecture and number of parameters."""
        return {
            "kind": "module",
            "type": type(self.model).__name__,
            "architecture": getattr(self.model, "architecture", None),
            "parameters": sum(parameter.numel() for parameter in self.model.parameters()),
        }


class CallableBox:
    """Any function as a black box.

    Args:
        function: images ``(N, C, H, W)`` to labels ``(N,)`` of an integer type, or to logits or
            probabilities ``(N, K)``; tensor, NumPy array or nested list.
        num_classes: how many classes, if known.
    """

    def __init__(self, function: Callable[[Tensor], Any], num_classes: int | None = None) -> None:
        self.function = function
        self._num_classes = num_classes

    @property
    def num_classes(self) -> int | None:
        """What was given at creation."""
        return self._num_classes

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are not a finite float batch in ``[0, 1]``.
            ModelUnsuitable: the function's answer has another form.
        """
        check_images(images)
        if not len(images):
            return torch.empty(0, dtype=torch.int64)
        return to_labels(self.function(images), len(images), self._num_classes)

    def describe(self) -> dict[str, Any]:
        """Kind and the function's name."""
        function = self.function
        return {
            "kind": "callable",
            "name": getattr(function, "__qualname__", type(function).__name__),
        }


def as_black_box(target: object) -> BlackBox:
    """The black box of anything that answers.

    Args:
        target: a black box, an `nn.Module`, the path of an ``.onnx`` file, an ``http(s)://``
            address of the Open Inference Protocol, or a function.

    Raises:
        InvalidInput: it is none of these.

    >>> as_black_box("model.pt")
    Traceback (most recent call last):
    doorward.errors.InvalidInput: 'model.pt' is no black box: accepted are ...
    """
    if isinstance(target, nn.Module):
        return ModuleBox(target)
    if callable(getattr(target, "labels", None)) and callable(getattr(target, "describe", None)):
        return cast(BlackBox, target)
    if isinstance(target, str) and target.startswith(("http://", "https://")):
        from doorward.models.endpoint import HttpBox

        return HttpBox(target)
    if isinstance(target, str | os.PathLike) and Path(target).suffix == ".onnx":
        from doorward.models.onnx import OnnxBox

        return OnnxBox(Path(target))
    if callable(target):
        return CallableBox(target)
    raise InvalidInput(
        f"{target!r:.80} is no black box",
        why="accepted are modules, functions, .onnx files and http(s):// addresses",
        remedy="open a model folder with doorward.bundles.open_black_box",
    )


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of images in pixel space.

    Raises:
        InvalidInput: not a float tensor ``(N, C, H, W)``, or values outside ``[0, 1]``.
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        kind = (
            f"{images.dtype} of shape {tuple(images.shape)}"
            if isinstance(images, Tensor)
            else type(images).__name__
        )
        raise InvalidInput(
            f"images are {kind}",
            why="a float tensor (N, C, H, W) in [0, 1] is needed",
            remedy="divide bytes by 255 and stack images into one batch",
        )
    if images.numel() and not ((images >= 0) & (images <= 1)).all():
        raise InvalidInput(
            f"pixels span {images.min().item():.4g} to {images.max().item():.4g}",
            why="images are in [0, 1], before any normalisation",
            remedy="undo the normalisation; models normalise by themselves",
        )


def to_labels(answers: object, count: int, num_classes: int | None = None) -> Tensor:
    """Labels of `count` images from labels ``(N,)``, or from logits or probabilities ``(N, K)``.

    Raises:
        ModelUnsuitable: the answers have another shape or type, are not finite, or are labels
            outside ``0..num_classes - 1``.

    >>> to_labels([[0.1, 0.9], [0.8, 0.2]], 2)
    tensor([1, 0])
    """
    try:
        values = torch.as_tensor(answers).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelUnsuitable(
            f"the answer is a {type(answers).__name__}",
            why=f"labels (N,) or logits (N, K) are needed ({error})",
        ) from error
    if values.shape == (count,) and not values.is_floating_point() and values.dtype != torch.bool:
        if (
            values.dtype == torch.uint64
        ):  # which knows no comparison; what is too large turns negative
            values = values.to(torch.int64)
        outside = (values < 0) | (values >= (num_classes or 2**31))
        if outside.any():
            raise ModelUnsuitable(
                f"the answer {values[outside][0].item()} is no class",
                why=f"classes are 0 to {num_classes - 1 if num_classes else 2**31 - 1}",
            )
        return values.to(torch.int64)
    if values.ndim != 2 or len(values) != count or not values.shape[1] or values.is_complex():
        raise ModelUnsuitable(
            f"the answer to {count} image(s) is {values.dtype} of shape {tuple(values.shape)}",
            why="integer labels (N,) or logits (N, K) are needed",
        )
    if not values.isfinite().all():
        raise ModelUnsuitable("the answer holds NaN or infinite logits")
    if num_classes is not None and values.shape[1] != num_classes:
        raise ModelUnsuitable(f"the answer has {values.shape[1]} columns for {num_classes} classes")
    return values.argmax(dim=1)
