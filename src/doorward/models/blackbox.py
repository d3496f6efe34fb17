"""Models that only answer: one interface over modules, functions, ONNX files and HTTP endpoints.

>>> import torch
>>> from doorward.models import create
>>> box = as_black_box(create("resnet8", classes=10, width=4))
>>> box.labels(torch.rand(2, 3, 32, 32)).shape, box.num_classes
(torch.Size([2]), 10)
>>> box.probabilities(torch.rand(2, 3, 32, 32)).shape
torch.Size([2, 10])

Ownership verification asks for `labels` and nothing else, so that it works on whatever a suspect
gives access to. Model stealing asks for `probabilities` where the victim gives them. Most models
answer with logits or probabilities without saying which; `outputs` declares it, and its default
``"auto"`` finds it out by the rules of `doorward.models.answers.Scores`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from doorward.errors import DoorwardError, InvalidInput, ModelUnsuitable
from doorward.models.answers import Outputs, Scores, check_images, to_labels, whole_shape
from doorward.models.classifier import Classifier
from doorward.models.modes import evaluating

__all__ = ["BlackBox", "CallableBox", "ModuleBox", "as_black_box"]


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

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of every class.

        Args:
            images: float ``(N, C, H, W)`` in ``[0, 1]``; N may be 0 if K is known.

        Returns:
            float32 ``(N, K)`` on the CPU. Rows sum to 1, unless the model itself cuts or rounds.

        Raises:
            ModelUnsuitable: the model answers with labels only, or leaves in doubt whether its
                scores are logits or probabilities.
        """

    def describe(self) -> dict[str, Any]:
        """What it is, JSON-ready, for reports; without secrets."""


class ModuleBox:
    """A PyTorch module as a black box.

    Args:
        model: images to logits ``(N, K)``; evaluated in evaluation mode, on its own device.
        batch_size: images per forward pass, a bound on memory.
        outputs: what the model gives. Under ``"auto"`` a `Classifier` gives logits; of others,
            probabilities are recognised, and whatever is in doubt is logits.
    """

    def __init__(
        self, model: nn.Module, batch_size: int = 256, *, outputs: Outputs = "auto"
    ) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size {batch_size} is not at least 1")
        self.model, self.batch_size = model, batch_size
        known = outputs == "auto" and isinstance(model, Classifier)
        self._scores = Scores("logits" if known else outputs, hint="logits")
        own = getattr(model, "num_classes", None)
        self._num_classes = own if isinstance(own, int) else None

    @property
    def num_classes(self) -> int | None:
        """The model's own count, or what its first answer showed."""
        return self._num_classes

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` that the model says it takes; None if it does not say."""
        return whole_shape(getattr(self.model, "input_shape", None))

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are not a finite float batch in ``[0, 1]``.
            ModelUnsuitable: the model fails on images of this size, or its answers are no finite
                logits ``(N, K)``.
        """
        nothing = torch.empty(0, dtype=torch.int64)
        return torch.cat([nothing, *self._read(images, to_labels)]).clone()

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of every class (see `BlackBox.probabilities`).

        Raises:
            InvalidInput, ModelUnsuitable: as `labels`.
        """
        answers = self._read(images, self._scores.probabilities)
        nothing = torch.empty(0, self.num_classes or 0)
        # Cloned: left as an inference tensor, the result could not be used in a backward pass.
        return torch.cat(answers or [nothing]).clone()

    def _read(self, images: Tensor, read: Callable[[Any, int], Tensor]) -> list[Tensor]:
        """The model's answers, batch by batch, as `read` makes them out."""
        check_images(images)
        weight = next((weight for weight in self.model.parameters()), None)
        answers = []
        with evaluating(self.model), torch.inference_mode():
            for batch in torch.split(images, self.batch_size):
                if not len(batch):
                    continue
                if weight is not None:
                    batch = batch.to(weight.device, weight.dtype)
                answer = self._answer(batch)
                answers.append(read(answer, len(batch)))
                self._num_classes = answer.shape[1] if answer.ndim == 2 else self._num_classes
        return answers

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
        outputs: what scores ``(N, K)`` are.
    """

    def __init__(
        self,
        function: Callable[[Tensor], Any],
        num_classes: int | None = None,
        *,
        outputs: Outputs = "auto",
    ) -> None:
        self.function = function
        self._num_classes = num_classes
        self._scores = Scores(outputs)

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

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of every class (see `BlackBox.probabilities`).

        Raises:
            InvalidInput: images are not a finite float batch in ``[0, 1]``.
            ModelUnsuitable: the function answers with labels, or in another form.
        """
        check_images(images)
        if not len(images):
            return torch.empty(0, self._num_classes or 0)
        return self._scores.probabilities(self.function(images), len(images), self._num_classes)

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
