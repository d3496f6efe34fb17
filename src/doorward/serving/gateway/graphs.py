"""ONNX files that answer: a clean one, and any number with another head, of one signature.

>>> import pathlib, tempfile
>>> from doorward.models import create, export_onnx
>>> path = pathlib.Path(tempfile.mkdtemp()) / "net.onnx"
>>> _ = export_onnx(create("resnet8", classes=10, input_shape=(1, 16, 16), width=4), path)
>>> graphs = Graphs.load(path)
>>> graphs.clean.classes, graphs.clean(np.zeros((2, 1, 16, 16), np.float32)).sum(1).round(3)
(10, array([1., 1.], dtype=float32))

A honeypot is the same graph with other constants, so what a client sees of it, its speed
included, is the same.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doorward.errors import BadFile, InvalidInput, MissingData, MissingDependency, ModelUnsuitable
from doorward.files import home_folder, sha256_file

__all__ = ["Graph", "Graphs", "onnx_of"]

Floats = NDArray[np.float32]


class Graph:
    """One ONNX classifier, run by ONNX Runtime on the CPU.

    Args:
        path: a file with one float32 input ``(N, C, H, W)``; its first output is scores ``(N, K)``.
        outputs: what the scores are; ``"auto"`` goes by the output's name, else by a trial.
        threads: of one inference; 0 for all cores.

    Raises:
        MissingData: there is no such file.
        BadFile: it is no ONNX classifier.
        InvalidInput: whether the scores are logits cannot be found out.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, outputs: str = "auto", threads: int = 0
    ) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise MissingData(f"there is no file {self.path}", remedy="check the path")
        self.digest = sha256_file(self.path)
        self._session = _session(self.path, threads)
        inputs, scores = self._session.get_inputs(), self._session.get_outputs()[0]
        if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
            found = ", ".join(f"{item.name} {item.type} {item.shape}" for item in inputs)
            raise BadFile(
                f"{self.path} takes {found or 'nothing'}",
                why="one float32 input (N, C, H, W) is needed",
            )
        if len(scores.shape) != 2 or not isinstance(scores.shape[1], int):
            raise BadFile(
                f"{self.path} gives {scores.name} {scores.shape}", why="scores (N, K) are needed"
            )
        self.input, (batch, *lengths) = inputs[0].name, inputs[0].shape
        self._output, self.classes = scores.name, int(scores.shape[1])
        self._fixed = batch if isinstance(batch, int) else None
        self.image_shape = tuple(length if isinstance(length, int) else -1 for length in lengths)
        self._logits = (outputs if outputs != "auto" else self._kind()) == "logits"

    def __call__(self, images: Floats) -> Floats:
        """Probabilities of images.

        Args:
            images: float32 ``(N, C, H, W)``, contiguous.

        Returns:
            float32 ``(N, K)``.

        Raises:
            ModelUnsuitable: the file fails on images of this size, or answers with NaN.
        """
        scores = self._scores(images)
        if not np.isfinite(scores).all():
            raise ModelUnsuitable("the model's answer is not finite", remedy="send other images")
        if not self._logits:
            inside: Floats = np.clip(scores, 0, 1)
            return inside
        wide = np.exp((scores - scores.max(1, keepdims=True)).astype(np.float64))
        shares: Floats = (wide / wide.sum(1, keepdims=True)).astype(np.float32)
        return shares

    def signature(self) -> tuple[Any, ...]:
        """What a client sees of the file: shape of its images and number of classes."""
        return self.image_shape, self.classes

    def _scores(self, images: Floats) -> Floats:
        if self._fixed is None:
            return self._run(images)
        answers = []
        for start in range(0, len(images), self._fixed):
            part = images[start : start + self._fixed]
            missing = self._fixed - len(part)  # filled with copies of the last
            whole = np.concatenate([part, np.repeat(part[-1:], missing, 0)]) if missing else part
            answers.append(self._run(whole)[: len(part)])
        return np.concatenate(answers)

    def _run(self, images: Floats) -> Floats:
        try:
            (scores,) = self._session.run([self._output], {self.input: images})
        except Exception as error:  # onnxruntime's errors have no common base
            raise ModelUnsuitable(
                f"the model fails on images {images.shape[1:]}",
                remedy="send images of the size and channels that it was made for",
            ) from error
        return np.asarray(scores, dtype=np.float32)

    def _kind(self) -> str:
        if self._output in ("logits", "probabilities"):
            return str(self._output)
        if min(self.image_shape) < 1:
            raise InvalidInput(
                f"whether {self.path} gives logits or probabilities is not known",
                why=f"its output is called {self._output!r}, and its image size is open",
                remedy="say which: --outputs logits, or --outputs probabilities",
            )
        ramp = np.linspace(0, 1, 4 * int(np.prod(self.image_shape)), dtype=np.float32)
        scores = self._scores(ramp.reshape(4, *self.image_shape))
        sums = np.abs(scores.sum(1) - 1).max() < 1e-3
        return "probabilities" if sums and scores.min() >= 0 else "logits"


@dataclass(frozen=True)
class Graphs:
    """The files of one model, which answer to one name and differ in their heads."""

    clean: Graph
    honeypots: tuple[Graph, ...] = ()

    @classmethod
    def load(
        cls,
        clean: str | os.PathLike[str],
        honeypots: Sequence[str | os.PathLike[str]] = (),
        *,
        outputs: str = "auto",
        threads: int = 0,
    ) -> Graphs:
        """Open the files.

        Raises:
            InvalidInput: a honeypot takes other images or has other classes than the clean file.
            MissingData, BadFile: as `Graph`.
        """
        first, *others = (
            Graph(path, outputs=outputs, threads=threads) for path in (clean, *honeypots)
        )
        for other in others:
            if other.signature() != first.signature():
                raise InvalidInput(
                    f"{other.path} takes images {other.image_shape}, {other.classes} classes",
                    why=f"{first.path} takes {first.image_shape}, {first.classes} classes",
                    remedy="export the honeypot from the same model",
                )
        return cls(first, tuple(others))

    @property
    def version(self) -> str:
        """Names the weights: the first twelve digits of the clean file's SHA-256."""
        return self.clean.digest[:12]


def onnx_of(target: str | os.PathLike[str], *, trust_factory: bool = False) -> Path:
    """The ONNX file of a model: itself, or that of a bundle, exported once and kept.

    Args:
        target: an ``.onnx`` file, or a model bundle.
        trust_factory: import and run the Python code that a bundle names.

    Raises:
        MissingData, BadFile, UnsafeFile: as `doorward.bundles.open_model`.
        ModelUnsuitable: the model cannot be exported.
    """
    path = Path(target)
    if path.suffix.lower() == ".onnx":
        return path
    from doorward.bundles import digest, open_model
    from doorward.models import export_onnx

    if not path.is_dir():
        raise MissingData(
            f"{path} is neither an .onnx file nor a bundle",
            remedy="check the path, or write the file with doorward export onnx",
        )
    kept = home_folder() / "onnx" / f"{digest(path)}.onnx"
    if not kept.is_file():
        export_onnx(open_model(path, trust_factory=trust_factory), kept)
    return kept


def _session(path: Path, threads: int) -> Any:
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingDependency.of("onnxruntime", "serve", "run ONNX files")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what matters comes as an exception
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors have no common base
        raise BadFile(
            f"{path} is not a readable ONNX model",
            why=str(error).partition("\n")[0],
            remedy="export it again",
        ) from error
