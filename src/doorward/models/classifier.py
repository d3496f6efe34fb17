"""The zoo's model: images in pixel space in, logits out, with its own metadata.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=["cat", "dog"], input_shape=(1, 28, 28), width=4)
>>> model(torch.rand(5, 1, 28, 28)).shape, model.classes
(torch.Size([5, 2]), ('cat', 'dog'))

A `Classifier` is a `Body` (normalised images to features) and a `head` (one `nn.Linear`). Mean and
standard deviation live inside, so everything outside works on pixels in ``[0, 1]``.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput

__all__ = ["Body", "Classifier"]


class Body(nn.Sequential):
    """Named steps from normalised images ``(N, C, H, W)`` to features ``(N, F)``.

    Args:
        steps: name -> module, in the order they run; the names become the model's sites.
        out_features: F.
    """

    def __init__(self, steps: Mapping[str, nn.Module], out_features: int) -> None:
        super().__init__(OrderedDict(steps))
        self.out_features = out_features


class Classifier(nn.Module):
    """An image classifier that knows its classes, its input and its normalisation.

    Args:
        body: normalised images ``(N, C, H, W)`` to features ``(N, F)``.
        head: features to logits ``(N, K)``.
        classes: K distinct names.
        input_shape: ``(C, H, W)`` of the images it takes.
        mean: what to subtract, per channel, in pixel units; 0.5 if None.
        std: what to divide by, per channel, in pixel units; 0.25 if None.
        architecture: name in the zoo, for saving and reloading.
        options: the architecture's options, for saving and reloading.

    Raises:
        InvalidInput: classes, shape, normalisation or head do not fit together.

    The normalisation is metadata, not a weight: it is kept with the architecture and the classes,
    and does not appear in `state_dict`.
    """

    _mean: Tensor
    _std: Tensor

    def __init__(
        self,
        body: nn.Module,
        head: nn.Linear,
        *,
        classes: Sequence[str],
        input_shape: tuple[int, int, int] = (3, 32, 32),
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        architecture: str = "custom",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.body = body
        self.head = head
        self.classes = class_names(classes)
        self.input_shape = tuple(input_shape)
        self.architecture = architecture
        self.options = dict(options or {})
        self.mean = _per_channel("mean", mean, 0.5, input_shape[0])
        self.std = _per_channel("std", std, 0.25, input_shape[0])
        if min(self.std) <= 0:
            raise InvalidInput(f"std {self.std} is not positive", remedy="give values above 0")
        if head.out_features != len(self.classes):
            raise InvalidInput(
                f"the head has {head.out_features} outputs for {len(self.classes)} classes",
                remedy="give as many class names as the head has outputs",
            )
        shape = (1, -1, 1, 1)
        self.register_buffer("_mean", torch.tensor(self.mean).view(shape), persistent=False)
        self.register_buffer("_std", torch.tensor(self.std).view(shape), persistent=False)

    @property
    def num_classes(self) -> int:
        """K, the number of classes."""
        return len(self.classes)

    def features(self, images: Tensor) -> Tensor:
        """What the head sees.

        Args:
            images: float, ``(N, C, H, W)`` of this model's `input_shape`, in ``[0, 1]``.

        Returns:
            Features ``(N, F)``.

        Raises:
            InvalidInput: the images have another shape or are not floating point.
        """
        if images.ndim != 4 or tuple(images.shape[1:]) != self.input_shape:
            raise InvalidInput(
                f"images have shape {tuple(images.shape)}",
                why=f"this {self.architecture} takes (N, {', '.join(map(str, self.input_shape))})",
                remedy="resize the images, or create the model with their input_shape",
            )
        if not images.is_floating_point():
            raise InvalidInput(
                f"images are {images.dtype}",
                why="models take floating point in [0, 1]",
                remedy="divide bytes by 255 (ImageData.pixels does)",
            )
        features: Tensor = self.body((images - self._mean) / self._std)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(N, K)`` of images ``(N, C, H, W)`` in ``[0, 1]`` (errors as in `features`)."""
        logits: Tensor = self.head(self.features(images))
        return logits

    def extra_repr(self) -> str:
        """One line about this model, for `repr`."""
        return (
            f"architecture={self.architecture!r}, input_shape={self.input_shape}, "
            f"num_classes={self.num_classes}"
        )


def class_names(classes: int | Sequence[str]) -> tuple[str, ...]:
    """Class names from a count or from names.

    >>> class_names(3)
    ('0', '1', '2')

    Raises:
        InvalidInput: fewer than two classes, or names that are empty, repeated or not strings.
    """
    if isinstance(classes, str):
        raise InvalidInput(
            f"classes is the string {classes!r}", remedy="give a count or a list of names"
        )
    names = tuple(map(str, range(classes))) if isinstance(classes, int) else tuple(classes)
    if len(names) < 2:
        raise InvalidInput(f"{len(names)} class(es) given", why="a classifier needs two or more")
    wrong = [name for name in names if not isinstance(name, str) or not name]
    if wrong:
        raise InvalidInput(f"class name {wrong[0]!r} is not a non-empty string")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidInput(f"class name {twice!r} is given twice", remedy="make names distinct")
    return names


def _per_channel(
    what: str, values: Sequence[float] | None, default: float, channels: int
) -> tuple[float, ...]:
    numbers = (default,) * channels if values is None else tuple(float(value) for value in values)
    if len(numbers) != channels:
        raise InvalidInput(
            f"{what} has {len(numbers)} value(s)", why=f"the images have {channels} channel(s)"
        )
    if not all(abs(number) < float("inf") for number in numbers):
        raise InvalidInput(f"{what} {numbers} is not finite")
    return numbers
