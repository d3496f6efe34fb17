"""The answers of a model over a data set, and how good they are.

>>> import torch
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
>>> predict(model, torch.rand(10, 1, 8, 8), batch_size=4).shape
torch.Size([10, 3])

The model is put into evaluation mode for the call and left as it was found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models.modes import evaluating

if TYPE_CHECKING:
    from doorward.data import ImageSource

__all__ = ["accuracy", "evaluating", "expected_calibration_error", "predict"]


def predict(
    model: nn.Module,
    source: ImageSource | Tensor,
    *,
    batch_size: int = 512,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Tensor:
    """The logits of a model for every image.

    Batches are moved to the model's device one at a time, so memory stays bounded.

    Args:
        model: maps float images (B, C, H, W) in [0, 1] to logits (B, K).
        source: a data set, or a float tensor of images (N, C, H, W) in [0, 1].
        batch_size: images per forward pass.
        precision: "bf16" runs the forward pass under autocast; faster, and the logits carry
            about three significant digits.

    Returns:
        Logits (N, K), float32, on the CPU.

    Raises:
        InvalidInput: there are no images, or they are not float images.
        ModelUnsuitable: the outputs are not (B, K) or contain NaN or infinity.
    """
    if isinstance(source, Tensor):
        _check_tensor(source)
        images = source
        return predict_batches(
            model, len(images), lambda rows: images[rows.to(images.device)], batch_size, precision
        )
    data = source
    return predict_batches(
        model, len(data), lambda rows: data.fetch(rows)[0], batch_size, precision
    )


def accuracy(model: nn.Module, source: ImageSource, *, batch_size: int = 512) -> float:
    """Share of a data set's images whose largest logit is at their label, in [0, 1].

    Args:
        model: maps float images (B, C, H, W) in [0, 1] to logits (B, K).
        source: a labelled data set.
        batch_size: images per forward pass.

    Raises:
        InvalidInput: the data set is empty.
        ModelUnsuitable: the model's outputs are no finite logits.

    >>> from types import SimpleNamespace
    >>> class Two(list):
    ...     labels = torch.tensor([0, 1])
    ...     def fetch(self, rows):
    ...         return torch.tensor([[255, 0], [255, 0]], dtype=torch.uint8)[rows], None
    >>> accuracy(nn.Identity(), Two([0, 1]))
    0.5
    """
    answers = predict(model, source, batch_size=batch_size).argmax(1)
    return float((answers == source.labels.cpu()).double().mean())


def expected_calibration_error(logits: Tensor, labels: Tensor, *, bins: int = 15) -> float:
    """Expected calibration error: mean gap between confidence and accuracy, in [0, 1].

    Guo et al. 2017, *On Calibration of Modern Neural Networks*: confidences (largest softmax
    value) fall into equal-width bins ``(i/bins, (i+1)/bins]``; the absolute gap between a bin's
    accuracy and its mean confidence is averaged with the bin's share of images as weight.

    Args:
        logits: (N, K), finite.
        labels: int64 (N,) in [0, K).
        bins: number of bins, at least 1.

    Raises:
        InvalidInput: shapes do not fit, there are no rows, or `bins` is below 1.

    >>> logits = torch.tensor([[0.0, 0.0], [0.0, 0.0]])     # confidence 1/2, right half the time
    >>> expected_calibration_error(logits, torch.tensor([0, 1]))
    0.0
    """
    if logits.ndim != 2 or labels.shape != logits.shape[:1] or not len(labels):
        raise InvalidInput(
            f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} do not fit",
            why="they must be (N, K) and (N,) with N of at least 1",
        )
    if bins < 1:
        raise InvalidInput(f"{bins} bins", why="at least one is needed")
    confidence, answers = logits.double().softmax(1).max(1)
    right = (answers == labels.to(logits.device)).double()
    # ceil - 1 puts a confidence that lies on an edge into the bin below it, as in the paper.
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=torch.float64, device=logits.device)
    gaps.index_add_(0, place, right - confidence)
    return float(gaps.abs().sum() / len(labels))


def predict_batches(
    model: nn.Module,
    count: int,
    fetch: Callable[[Tensor], Tensor],
    batch_size: int,
    precision: str = "fp32",
) -> Tensor:
    """`predict` over any function from row numbers to images (uint8, or float in [0, 1])."""
    if count < 1:
        raise InvalidInput("there are no images to predict", remedy="check the data set's filter")
    if batch_size < 1:
        raise InvalidInput(f"batch_size is {batch_size}", why="at least 1 is needed")
    if precision not in ("fp32", "bf16"):
        raise InvalidInput(f"precision is {precision!r}", why="'fp32' and 'bf16' are known")
    device = device_of(model)
    outputs = []
    with evaluating(model), torch.inference_mode():
        for start in range(0, count, batch_size):
            rows = torch.arange(start, min(start + batch_size, count))
            images = fetch(rows).to(device, non_blocking=True)
            if images.dtype == torch.uint8:
                images = images.to(torch.float32).div_(255)
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
                logits = model(images)
            outputs.append(_checked(logits, len(rows)))
    # Left as an inference tensor, the result could not be used in anyone's backward pass.
    return torch.cat(outputs).clone()


def _checked(logits: object, rows: int) -> Tensor:
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != rows:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelUnsuitable(
            f"the model answered {shape} for a batch of {rows} images",
            why="logits of shape (batch, classes) are needed",
            remedy="wrap the model so that it returns its logits only",
        )
    result = logits.float().cpu()
    if not torch.isfinite(result).all():
        raise ModelUnsuitable(
            "the model's outputs contain NaN or infinity",
            why="its weights are damaged, or its training diverged",
            remedy="load an intact copy, or train again with a smaller learning rate",
        )
    return result


def _check_tensor(images: Tensor) -> None:
    if images.ndim < 2 or not images.dtype.is_floating_point:
        raise InvalidInput(
            f"images are {images.dtype} of shape {tuple(images.shape)}",
            why="float images (N, C, H, W) in [0, 1] are expected",
            remedy="convert them with images.float() / 255",
        )


def device_of(model: nn.Module) -> torch.device:
    """Where a module's weights are; the CPU for one without any."""
    for tensors in (model.parameters(), model.buffers()):
        for tensor in tensors:
            return tensor.device
    return torch.device("cpu")
