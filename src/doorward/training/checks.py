"""What can be known to be wrong before the first step, said before it.

>>> import torch
>>> from torch import nn
>>> from doorward.data import load
>>> check_inputs(nn.Sequential(nn.Flatten(), nn.Linear(1024, 9)), load("digits"))
Traceback (most recent call last):
doorward.errors.InvalidInput: digits has the label 9: the model answers for 9 classes, 0 to 8. ...
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import DoorwardError, InvalidInput, ModelUnsuitable
from doorward.metrics import evaluating

__all__ = ["bad_weight", "check_inputs"]


def check_inputs(
    model: nn.Module, source: ImageSource, validation: ImageSource | None = None
) -> None:
    """Run two images through the model and compare its answer with the labels.

    Args:
        model: maps images (N, C, H, W) in [0, 1] to logits (N, K).
        source: the training images.
        validation: images that accuracy will be measured on.

    Raises:
        InvalidInput: a set is empty, labels are malformed or outside the model's classes, the sets
            have different image shapes.
        ModelUnsuitable: a weight is NaN or infinite, the model does not take such images, or does
            not answer with one row of logits per image.
    """
    name = bad_weight(model)
    if name is not None:
        raise ModelUnsuitable(
            f"the model's {name} contains NaN or infinity",
            why="the file is damaged, or an earlier training diverged",
            remedy="start from an intact model",
        )
    classes = _check_forward(model, source)
    _check_labels(source, classes)
    if validation is not None:
        _check_labels(validation, classes)
        if validation.image_shape != source.image_shape:
            raise InvalidInput(
                f"validation images of {validation.name} are {_size(validation)}, "
                f"training images are {_size(source)}",
                remedy="load both with the same size and channels",
            )


def bad_weight(model: nn.Module) -> str | None:
    """Name of a parameter or buffer with NaN or infinity in it; None if all are finite."""
    tensors = {
        name: tensor
        for name, tensor in model.state_dict().items()
        if isinstance(tensor, Tensor) and tensor.is_floating_point() and tensor.numel()
    }
    if not tensors:
        return None
    # Summing may overflow where no element is infinite; only then is each tensor looked at.
    sums = torch.stack([tensor.detach().sum().float() for tensor in tensors.values()])
    if bool(torch.isfinite(sums).all()):
        return None
    for name, tensor in tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            return name
    return None


def _check_forward(model: nn.Module, source: ImageSource) -> int:
    if len(source) == 0:
        raise InvalidInput(f"{source.name} has no images")
    images, _ = source.fetch(torch.tensor([0, len(source) - 1]))
    first = next(iter(model.state_dict().values()), None)
    images = to_pixels(images).to(first.device if isinstance(first, Tensor) else "cpu")
    try:
        with evaluating(model), torch.no_grad():
            logits = model(images)
    except DoorwardError:
        raise
    except Exception as error:  # whatever a stranger's module raises means the same here
        raise ModelUnsuitable(
            f"the model does not take images of {_size(source)} ({source.name})",
            why=str(error).partition("\n")[0],
            remedy="load the data with the size and channels that the model takes, "
            "or create the model for this image shape",
        ) from error
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != 2:
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ModelUnsuitable(
            f"the model answered {shape} for 2 images",
            why="logits of shape (2, classes) are needed",
            remedy="wrap the model so that it returns its logits only",
        )
    return logits.shape[1]


def _check_labels(source: ImageSource, classes: int) -> None:
    labels = source.labels
    if labels.dtype != torch.int64 or labels.shape != (len(source),):
        raise InvalidInput(
            f"the labels of {source.name} are {labels.dtype} of shape {tuple(labels.shape)}",
            why=f"int64 of shape ({len(source)},) is needed",
        )
    for label in (int(labels.min()), int(labels.max())):
        if not 0 <= label < classes:
            raise InvalidInput(
                f"{source.name} has the label {label}",
                why=f"the model answers for {classes} classes, 0 to {classes - 1}",
                remedy="create the model with as many classes as the data has",
            )


def _size(source: ImageSource) -> str:
    return "x".join(str(side) for side in source.image_shape)
