"""Models out to ONNX files, and ONNX files as black boxes.

>>> import pathlib, tempfile, torch
>>> from doorward.models import create
>>> path = pathlib.Path(tempfile.mkdtemp()) / "model.onnx"
>>> facts = export_onnx(create("resnet8", classes=10, width=4), path)
>>> facts["max_difference"] < 1e-3, OnnxBox(path).labels(torch.rand(3, 3, 32, 32)).shape
(True, torch.Size([3]))

Needs the extra ``onnx`` (``pip install 'doorward[onnx]'``).
"""

from __future__ import annotations

import importlib.util
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from doorward.errors import BadFile, InvalidInput, MissingData, MissingDependency, ModelUnsuitable
from doorward.files import atomic_file
from doorward.models.answers import Outputs, Scores, check_images, to_labels, whole_shape
from doorward.models.modes import evaluating
from doorward.randomness import generator

__all__ = ["OPSET", "OnnxBox", "export_onnx"]

OPSET = 18
"""The ONNX operator set of exported files; every runtime since 2023 reads it."""

_TOLERANCE = 1e-3
"""Largest accepted difference of logits, relative to the largest logit."""


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    input_shape: tuple[int, int, int] | None = None,
) -> dict[str, Any]:
    """Write a model as one ONNX file and check that it answers as PyTorch does.

    Args:
        model: images ``(N, C, H, W)`` to logits ``(N, K)``; exported in evaluation mode.
        path: the file to write; an existing one is replaced once the new one has passed.
        input_shape: ``(C, H, W)``; the model's own `input_shape` if None.

    Returns:
        ``path``, ``opset``, ``bytes`` and ``max_difference``, the largest difference between the
        two runtimes' logits on batches of 1, 2 and 5 random images.

    The input is called ``images`` and the output ``logits``, both float32 with a dynamic batch.

    Raises:
        MissingDependency: the extra ``onnx`` is not installed.
        InvalidInput: no input shape is known.
        ModelUnsuitable: the model cannot be exported, or the file answers differently.
        StorageFailed: the file could not be written.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(package) is None:
            raise MissingDependency.of(package, "onnx", "export models to ONNX")
    shape = input_shape or getattr(model, "input_shape", None)
    if shape is None:
        raise InvalidInput(
            f"the input shape of this {type(model).__name__} is not known",
            remedy="give input_shape=(C, H, W)",
        )
    weight = next(iter(model.parameters()), None)
    device = weight.device if weight is not None else torch.device("cpu")
    images = torch.rand((5, *shape), generator=generator(0, "onnx parity")).to(device)
    with evaluating(model), torch.no_grad():
        content = _export(model, images[:2])
        expected = [model(images[:count]).float().cpu() for count in (1, 2, 5)]
    with atomic_file(path) as temporary:
        temporary.write_bytes(content)
        session = _session(temporary)
        difference, scale = 0.0, 1.0
        for count, logits in zip((1, 2, 5), expected, strict=True):
            found = torch.from_numpy(session.run(None, {"images": images[:count].cpu().numpy()})[0])
            difference = max(difference, (found - logits).abs().max().item())
            scale = max(scale, logits.abs().max().item())
        if not difference <= _TOLERANCE * scale:  # also refuses NaN
            raise ModelUnsuitable(
                f"the ONNX file's logits differ from PyTorch's by {difference:.3g}",
                why=f"at most {_TOLERANCE * scale:.3g} is accepted; no file was written",
                remedy="check the model with doorward.models.check_model",
            )
    return {
        "path": str(path),
        "opset": OPSET,
        "bytes": len(content),
        "max_difference": difference,
    }


class OnnxBox:
    """An ONNX classifier as a black box, run by ONNX Runtime on the CPU.

    Args:
        path: a file with one input ``(N, C, H, W)`` of float32 images in ``[0, 1]``; its first
            output is labels ``(N,)``, or logits or probabilities ``(N, K)``.
        batch_size: images per run; a file with a fixed batch uses that instead.
        outputs: which of the two; under ``"auto"`` the values tell, and in doubt the output's name.

    Raises:
        MissingDependency: onnxruntime is not installed.
        MissingData: there is no such file.
        BadFile: it is no ONNX model of images.
    """

    def __init__(
        self, path: str | os.PathLike[str], batch_size: int = 256, *, outputs: Outputs = "auto"
    ) -> None:
        self.path = Path(path)
        if batch_size < 1:
            raise InvalidInput(f"batch_size {batch_size} is not at least 1")
        if importlib.util.find_spec("onnxruntime") is None:
            raise MissingDependency.of("onnxruntime", "onnx", "run ONNX files")
        if not self.path.is_file():
            raise MissingData(f"there is no file {self.path}", remedy="check the path")
        self._session = _session(self.path)
        inputs, results = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
            raise BadFile(
                f"{self.path} takes {found or 'nothing'}",
                why="one float32 input (N, C, H, W) is needed",
            )
        self._input, (batch, *self._shape) = inputs[0].name, inputs[0].shape
        self._fixed = batch if isinstance(batch, int) else None
        self.batch_size = self._fixed or batch_size
        width = results[0].shape[1] if len(results[0].shape) == 2 else None
        self._num_classes = width if isinstance(width, int) else None
        self._scores = Scores(outputs, hint=results[0].name)

    @property
    def num_classes(self) -> int | None:
        """K of an output ``(N, K)``; None if the file gives labels only."""
        return self._num_classes

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` that the file takes; None if it takes several."""
        return whole_shape(self._shape)

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are no float batch in ``[0, 1]`` of the file's size.
            ModelUnsuitable: the answers are no labels and no finite logits.
        """
        nothing = torch.empty(0, dtype=torch.int64)
        return torch.cat([nothing, *self._read(images, to_labels)])

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of every class (see `BlackBox.probabilities`).

        Raises:
            InvalidInput: as `labels`.
            ModelUnsuitable: the file gives labels only, or no finite scores.
        """
        answers = self._read(images, self._scores.probabilities)
        return torch.cat(answers) if answers else torch.empty(0, self._num_classes or 0)

    def _read(self, images: Tensor, read: Callable[[Any, int, int | None], Tensor]) -> list[Tensor]:
        """The file's answers, batch by batch, as `read` makes them out."""
        check_images(images)
        wanted = zip(self._shape, images.shape[1:], strict=True)
        if any(isinstance(length, int) and length != given for length, given in wanted):
            raise InvalidInput(
                f"images have shape {tuple(images.shape)}",
                why=f"{self.path.name} takes (N, {', '.join(map(str, self._shape))})",
                remedy="resize the images",
            )
        answers = []
        for batch in torch.split(images.detach().float().cpu(), self.batch_size):
            count = len(batch)
            if not count:
                continue
            if self._fixed and count < self._fixed:  # fill a fixed batch with copies of the last
                batch = torch.cat([batch, batch[-1:].expand(self._fixed - count, -1, -1, -1)])
            found = self._run(batch)
            answers.append(read(found[:count], count, self._num_classes))
        return answers

    def _run(self, batch: Tensor) -> Any:
        try:
            return self._session.run(None, {self._input: batch.contiguous().numpy()})[0]
        except Exception as error:  # onnxruntime's errors have no common base
            raise ModelUnsuitable(
                f"{self.path.name} fails on images {tuple(batch.shape)}",
                why=str(error).partition("\n")[0][:300],
                remedy="give images of the size and channels that it was made for",
            ) from error

    def describe(self) -> dict[str, Any]:
        """Kind, file name and input shape."""
        return {"kind": "onnx", "file": self.path.name, "input_shape": list(self._shape)}


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise BadFile(
            f"{path} is not a readable ONNX model",
            why=str(error).partition("\n")[0],
            remedy="export it again",
        ) from error


def _export(model: nn.Module, images: Tensor) -> bytes:
    try:
        with _quietly():
            program = torch.onnx.export(
                model,
                (images,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                verbose=False,
            )
    except Exception as error:  # the exporter raises many unrelated types
        raise ModelUnsuitable(
            f"this {type(model).__name__} cannot be exported to ONNX",
            why=f"{type(error).__name__}: {error}".strip().partition("\n")[0],
            remedy="avoid Python control flow that depends on pixel values or on the batch size",
        ) from error
    assert program is not None  # noqa: S101 - the dynamo exporter always returns one
    content: bytes = program.model_proto.SerializeToString()
    return content


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep to itself what the exporter says about torchvision and about torch's own code."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        log.setLevel(level)
