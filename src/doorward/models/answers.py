"""What a model answers, read as labels or as probabilities.

Labels are read from labels or from scores; probabilities only from scores:

>>> to_labels([[0.1, 0.9], [0.8, 0.2]], 2)
tensor([1, 0])
>>> Scores().probabilities([[0.0, 0.0], [2.0, 2.0]], 2)
tensor([[0.5000, 0.5000],
        [0.5000, 0.5000]])

Scores are logits or probabilities, and what they are is declared, or found out by `Scores`.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from doorward.errors import InvalidInput, ModelUnsuitable

__all__ = [
    "OUTPUTS",
    "Outputs",
    "Scores",
    "check_images",
    "labels_only",
    "to_labels",
    "whole_shape",
]

Outputs = Literal["auto", "logits", "probabilities"]
OUTPUTS = ("auto", "logits", "probabilities")

_SUM = 1e-3  # how far from 1 the sum of a row of probabilities may lie, through rounding of floats


class Scores:
    """Reads a model's scores ``(N, K)`` as probabilities, whichever of the two kinds they are.

    Declared, ``"logits"`` go through a softmax, and ``"probabilities"`` are taken as they come
    once they are seen to lie in [0, 1] (their rows may sum to less than 1: some services cut or
    round). Under ``"auto"`` each batch tells:

    * a value below 0 or above 1: logits, in this batch and from then on;
    * all values in [0, 1], each row's sum within 0.001 of 1: probabilities;
    * all values in [0, 1] but other sums: as the batches before; without any, as the `hint` says;
      without a hint they could be either, which is an error that asks for a declaration.

    Args:
        outputs: ``"auto"``, ``"logits"`` or ``"probabilities"``.
        hint: what they are called (an output's name); ``"logits"`` and ``"probabilities"`` count.

    Raises:
        InvalidInput: `outputs` is none of the three.

    >>> Scores().probabilities([[0.4, 0.6]], 1), Scores("logits").probabilities([[0.4, 0.4]], 1)
    (tensor([[0.4000, 0.6000]]), tensor([[0.5000, 0.5000]]))
    """

    def __init__(self, outputs: Outputs = "auto", hint: str | None = None) -> None:
        if outputs not in OUTPUTS:
            raise InvalidInput(
                f"outputs={outputs!r} is unknown", why=f"known: {', '.join(OUTPUTS)}"
            )
        self.outputs = outputs
        self._hint = hint if hint in ("logits", "probabilities") else None
        self._seen: str | None = None

    def probabilities(self, answers: object, count: int, num_classes: int | None = None) -> Tensor:
        """Probabilities of `count` images.

        Args:
            answers: scores ``(count, K)``; tensor, NumPy array or nested list.
            count: of images.
            num_classes: K, if known.

        Returns:
            float32 ``(count, K)`` on the CPU.

        Raises:
            ModelUnsuitable: these are labels, or no finite scores, or not the kind that they were
                declared or seen to be.
        """
        values = _tensor(answers)
        if values.shape == (count,) and not values.is_floating_point():
            raise labels_only()
        # float64, because softmax of float32 logits is then exact to the last digit of float32.
        values = _scores(values, count, num_classes).double()
        logits = self._kind(values) == "logits"
        return (values.softmax(dim=1) if logits else values.clamp(0, 1)).float()

    def _kind(self, values: Tensor) -> str:
        inside = bool(((values >= -_SUM) & (values <= 1 + _SUM)).all())
        if self.outputs == "probabilities" or self._seen == "probabilities":
            if not inside:
                raise ModelUnsuitable(
                    f"the scores span {values.min().item():.4g} to {values.max().item():.4g}",
                    why="they were declared or taken to be probabilities, which lie in [0, 1]",
                    remedy='declare outputs="logits"',
                )
            return "probabilities"
        if self.outputs == "logits" or self._seen == "logits":
            return "logits"
        if not inside:
            self._seen = "logits"
        elif ((values.sum(dim=1) - 1).abs() <= _SUM).all():
            self._seen = "probabilities"
        else:
            return self._doubtful()
        return self._seen

    def _doubtful(self) -> str:
        if self._hint is None:
            raise ModelUnsuitable(
                "the scores could be logits or probabilities",
                why="all lie in [0, 1], but their rows do not sum to 1",
                remedy='declare outputs="logits" or outputs="probabilities"',
            )
        return self._hint


def labels_only() -> ModelUnsuitable:
    """The error for a model that was asked for probabilities and knows none."""
    return ModelUnsuitable(
        "the model answers with labels only",
        why="probabilities were asked for",
        remedy='ask for labels (for model stealing: answers="label")',
    )


def whole_shape(lengths: object) -> tuple[int, int, int] | None:
    """``(C, H, W)`` if these are three whole lengths, none of them left open; else None.

    >>> whole_shape([3, 32, 32]), whole_shape([3, -1, "width"]), whole_shape(None)
    ((3, 32, 32), None, None)
    """
    if not isinstance(lengths, list | tuple) or len(lengths) != 3:
        return None
    channels, height, width = lengths
    known = all(type(length) is int and length > 0 for length in lengths)
    return (channels, height, width) if known else None


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
    values = _tensor(answers)
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
    return _scores(values, count, num_classes).argmax(dim=1)


def _tensor(answers: object) -> Tensor:
    try:
        return torch.as_tensor(answers).detach().cpu()
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ModelUnsuitable(
            f"the answer is a {type(answers).__name__}",
            why=f"labels (N,) or logits (N, K) are needed ({error})",
        ) from error


def _scores(values: Tensor, count: int, num_classes: int | None) -> Tensor:
    """Finite scores ``(count, K)``, or an error."""
    if values.ndim != 2 or len(values) != count or not values.shape[1] or values.is_complex():
        raise ModelUnsuitable(
            f"the answer to {count} image(s) is {values.dtype} of shape {tuple(values.shape)}",
            why="integer labels (N,) or logits (N, K) are needed",
        )
    if not values.isfinite().all():
        raise ModelUnsuitable("the answer holds NaN or infinite logits")
    if num_classes is not None and values.shape[1] != num_classes:
        raise ModelUnsuitable(f"the answer has {values.shape[1]} columns for {num_classes} classes")
    return values
