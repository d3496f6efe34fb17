"""The base of all triggers: one hook to write, and everything around it done once.

A subclass keeps a few numbers, returns them from `config`, and writes `apply`:

>>> class Invert(Trigger):
...     def config(self): return {}
...     def apply(self, images): return 1 - images
>>> Invert()(torch.zeros(1, 1, 1, 2))
tensor([[[[1., 1.]]]])

`forward` checks the images, calls `apply`, and clamps the result into [0, 1].
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self, final

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.metrics.distance import psnr, ssim
from doorward.records import STRICT, Record
from doorward.registry import Registry

__all__ = ["TRIGGERS", "Strength", "Trigger"]

LARGEST_SIDE = 4096
"""Of a trigger's own pattern in pixels, so that a damaged description cannot ask for terabytes."""

_KEPT = 8  # patterns kept per trigger: a few sizes, dtypes and devices


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Strength(Record):
    """How visible a trigger is on given images; reported beside every attack result.

    Attributes:
        l2: mean over images of the L2 norm of the change, pixels in [0, 1].
        linf: largest change of any pixel.
        changed: share of pixel values that change by half a grey level or more.
        psnr: peak signal-to-noise ratio of the mean squared change in decibels; None where
            nothing changes.
        ssim: mean structural similarity. Windows that reach beyond the edge are left out, as in
            its paper, so a patch in a corner hardly shows in it; look at `linf` for those.
    """

    l2: Annotated[float, Field(ge=0)]
    linf: Annotated[float, Field(ge=0, le=1)]
    changed: Annotated[float, Field(ge=0, le=1)]
    psnr: float | None
    ssim: Annotated[float, Field(ge=-1.01, le=1.01)]


class Trigger(nn.Module, ABC):
    """An image -> image module that carries an attacker's mark.

    Deterministic given its configuration and tensors, in pixel space, for float32 or float64
    images (N, C, H, W) in [0, 1] of any size, C = 1 or 3. The result has the shape, dtype and
    device of the images, and gradients flow through where the operation allows.
    """

    def __init__(self) -> None:
        super().__init__()
        self._patterns: dict[tuple[Any, ...], Tensor] = {}

    @abstractmethod
    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """The change itself: checked images in, images out; need not stay within [0, 1]."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-ready builtins; tensors belong in `state_dict`."""

    @final  # type: ignore[misc]  # torch declares `forward` as an attribute
    def forward(self, images: Tensor) -> Tensor:
        """Put the trigger on images.

        Args:
            images: float32 or float64 (N, C, H, W) in [0, 1], C = 1 or 3; N may be 0.

        Returns:
            New images of the same shape, dtype and device, in [0, 1].

        Raises:
            InvalidInput: the images are not as described, or too small for the trigger.
        """
        check_images(images)
        return self.apply(images).clamp(0, 1)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the trigger that `config` described.

        Raises:
            InvalidInput: an option is unknown or out of range; the message names it.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise InvalidInput(
                f"{dict(config)!r:.200} does not describe a {cls.__name__} trigger", why=str(error)
            ) from error

    def strength(self, images: Tensor) -> Strength:
        """How far the trigger moves given images (see `Strength`).

        Args:
            images: float (N, C, H, W) in [0, 1], N at least 1; a hundred are plenty.
        """
        if not len(images):
            raise InvalidInput("there are no images to measure a trigger on")
        with torch.no_grad():
            marked: Tensor = self(images)
            change = marked - images
            square = change.square().mean()
            return Strength(
                l2=float(change.flatten(1).norm(dim=1).mean()),
                linf=float(change.abs().max()),
                changed=float((change.abs() >= 0.5 / 255).double().mean()),
                psnr=float(psnr(marked.flatten(0, 1)[None], images.flatten(0, 1)[None]))
                if square > 0
                else None,
                ssim=float(ssim(images, marked).mean()),
            )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write this trigger to a folder (``trigger.json``, ``trigger.safetensors``).

        Raises:
            StorageFailed: the file system refused; nothing is left half-written.
        """
        from doorward.triggers.storage import save_trigger

        save_trigger(self, folder)

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> Trigger:
        """Read a trigger of any registered class that `save` (or `Backdoor.save`) wrote.

        Raises:
            MissingData: there is no such folder.
            BadFile: the folder holds no trigger.
            IntegrityError: the files were changed after they were saved.
        """
        from doorward.triggers.storage import load_trigger

        return load_trigger(folder)[0]

    def extra_repr(self) -> str:
        """The configuration, for `repr`."""
        return ", ".join(f"{name}={value!r:.40}" for name, value in self.config().items())

    def _pattern(self, like: Tensor, make: Callable[[int, int, int], Tensor]) -> Tensor:
        """`make(channels, height, width)` on the device and in the dtype of `like`, kept."""
        key = (*like.shape[1:], like.dtype, like.device)
        if key not in self._patterns:
            while len(self._patterns) >= _KEPT:
                self._patterns.pop(next(iter(self._patterns)))
            # A tensor made under inference mode could never be used in a backward pass later.
            with torch.inference_mode(False), torch.no_grad():
                channels, height, width = like.shape[1:]
                self._patterns[key] = make(channels, height, width).to(like.device, like.dtype)
        return self._patterns[key]


TRIGGERS: Registry[type[Trigger]] = Registry("trigger")
"""All triggers by name."""


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of images in pixel space.

    >>> check_images(torch.full((1, 3, 4, 4), 255.0))
    Traceback (most recent call last):
    doorward.errors.InvalidInput: pixel values reach from 255 to 255: ...
    """
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] not in (1, 3):
        shape = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise InvalidInput(
            f"images are {shape}",
            why="a tensor (N, C, H, W) with C = 1 or 3 is expected",
            remedy="add the batch axis with images[None], or move the channels to axis 1",
        )
    if min(images.shape[2:]) < 1:
        raise InvalidInput(f"images of {images.shape[2]}x{images.shape[3]} pixels are empty")
    if images.dtype not in (torch.float32, torch.float64):
        raise InvalidInput(
            f"images are {images.dtype}",
            why="float32 or float64 pixels in [0, 1] are expected",
            remedy="convert them with images.float() / 255",
        )
    if len(images):
        low, high = (float(value) for value in images.detach().aminmax())
        if not (low >= -1e-6 and high <= 1 + 1e-6):  # also catches NaN
            raise InvalidInput(
                f"pixel values reach from {low:g} to {high:g}",
                why="pixels in [0, 1] are expected",
                remedy="divide 8-bit images by 255, and undo any normalisation",
            )


def whole(name: str, value: Any, low: int = 0, high: int = 2**63 - 1) -> int:
    """`value` if it is an integer from `low` to `high`, else an error that names the option."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidInput(
            f"{name} is {value!r}", why=f"a whole number from {low} to {high} is expected"
        )
    return value


def number(name: str, value: Any, low: float, high: float) -> float:
    """`value` as a float if it lies in [low, high], else an error that names the option."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise InvalidInput(
            f"{name} is {value!r}", why=f"a number from {low:g} to {high:g} is expected"
        )
    return float(value)


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """`value` if it is one of the known words, else an error that lists them."""
    if value not in known:
        raise InvalidInput(f"{name} is {value!r}", why=f"known are {', '.join(known)}")
    return str(value)


def as_channels(pattern: Tensor, channels: int) -> Tensor:
    """A pattern (1 or 3, h, w) with the channels of the images: repeated, or turned to grey."""
    if len(pattern) == channels:
        return pattern
    if channels == 3:
        return pattern.expand(3, -1, -1)
    luma = pattern.new_tensor([0.299, 0.587, 0.114])
    return (luma[:, None, None] * pattern).sum(0, keepdim=True)
