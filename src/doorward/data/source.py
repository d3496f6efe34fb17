"""Labelled images: the contract of a source, and the one that holds everything in one tensor.

>>> data = ImageData(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.arange(4) % 2, ("a", "b"))
>>> data.image_shape, len(data), data.counts().tolist()
((1, 8, 8), 4, [2, 2])
>>> data.pixels().dtype, float(data.pixels().max())
(torch.float32, 0.0)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.data.selection import Selection
from doorward.errors import InvalidInput
from doorward.files import canonical_json

__all__ = ["ImageData", "ImageSource", "to_pixels"]


class ImageSource(Protocol):
    """What `Batches` needs: labels at hand, images on demand.

    A source that can read ahead also has ``stream(index_batches, *, pin_memory)``, an iterator
    over what `fetch` would give for each of them (see `doorward.data.StreamedImages`).
    """

    @property
    def name(self) -> str:
        """What the images are called in reports."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; a label is a position in it."""

    @property
    def num_classes(self) -> int:
        """Number of classes."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``, C in {1, 3}."""

    @property
    def labels(self) -> Tensor:
        """int64 ``(N,)``."""

    def __len__(self) -> int:
        """Number of images."""

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 ``(B, C, H, W)`` and labels int64 ``(B,)`` at int64 `indices` ``(B,)``."""


def to_pixels(images: Tensor) -> Tensor:
    """Stored uint8 images as float32 in ``[0, 1]``; float images pass unchanged.

    >>> to_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    return images.float().div_(255) if images.dtype == torch.uint8 else images


@dataclass(frozen=True, eq=False)
class ImageData(Selection):
    """Labelled images in one uint8 tensor, on one device.

    Args:
        images: uint8 ``(N, C, H, W)``, N >= 1, C in {1, 3}.
        labels: int64 ``(N,)`` on the same device, each in ``0..K-1``.
        classes: the K class names.
        name: what the set is called in reports.

    Raises:
        InvalidInput: a dtype, a shape, a device or a label does not fit; the message says which.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    name: str = "images"

    def __post_init__(self) -> None:
        _check_images(self.images)
        _check_labels(self.labels, self.images)
        object.__setattr__(self, "classes", tuple(self.classes))
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise InvalidInput(f"{self.name}: class names must be given, each once")
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise InvalidInput(
                f"{self.name}: label {low if low < 0 else high} is out of range",
                why=f"there are {len(self.classes)} classes, numbered from 0",
                remedy="name all classes, or correct the labels",
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        _, channels, height, width = self.images.shape
        return channels, height, width

    @property
    def device(self) -> torch.device:
        """Where the images are."""
        return self.images.device

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 ``(B, C, H, W)`` and labels ``(B,)`` at `indices`, on this set's device."""
        indices = indices.to(self.images.device)
        return self.images.index_select(0, indices), self.labels.index_select(0, indices)

    def pixels(self, indices: Tensor | Sequence[int] | None = None) -> Tensor:
        """Images as float32 ``(B, C, H, W)`` in ``[0, 1]``; all of them without `indices`."""
        if indices is None:
            return to_pixels(self.images)
        return to_pixels(self.images.index_select(0, self._positions(indices)))

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at `indices` (int64 positions or a bool mask), in that order.

        Raises:
            InvalidInput: there are none, or one is out of range.
        """
        positions = self._positions(indices)
        return replace(
            self,
            images=self.images.index_select(0, positions),
            labels=self.labels.index_select(0, positions),
        )

    def to(self, device: torch.device | str) -> Self:
        """The same set on another device (itself when it is there already)."""
        images = self.images.to(device)
        if images is self.images:
            return self
        return replace(self, images=images, labels=self.labels.to(device))

    def resized(self, size: int | tuple[int, int]) -> Self:
        """All images resampled to `size` (side, or height and width), bilinear, anti-aliased."""
        height, width = (size, size) if isinstance(size, int) else size
        if min(height, width) < 1:
            raise InvalidInput(f"images cannot be resized to {height}x{width}")
        if (height, width) == self.image_shape[1:]:
            return self
        parts = [
            F.interpolate(
                part.float(), (height, width), mode="bilinear", antialias=True, align_corners=False
            )
            .round_()
            .clamp_(0, 255)
            .to(torch.uint8)
            for part in torch.split(self.images, 1024)  # bounds the float copy
        ]
        return replace(self, images=torch.cat(parts))

    def with_channels(self, channels: int) -> Self:
        """Grey to colour (copied) or colour to grey (ITU-R 601 luma, as Pillow computes it)."""
        if channels not in (1, 3):
            raise InvalidInput(f"images with {channels} channels are not supported", why="1 or 3")
        if channels == self.images.shape[1]:
            return self
        if channels == 3:
            return replace(self, images=self.images.repeat(1, 3, 1, 1))
        weights = torch.tensor([19595, 38470, 7471], dtype=torch.int32, device=self.device)
        parts = [
            ((part.int() * weights.view(3, 1, 1)).sum(1, keepdim=True) + 0x8000 >> 16).to(
                torch.uint8
            )
            for part in torch.split(self.images, 1024)
        ]
        return replace(self, images=torch.cat(parts))

    def digest(self) -> str:
        """Hex SHA-256 over shape, class names, labels and pixels: names exactly this content."""
        header = {"shape": list(self.images.shape), "classes": list(self.classes)}
        state = hashlib.sha256(canonical_json(header))
        state.update(self.labels.cpu().numpy().astype("<i8").tobytes())
        state.update(self.images.cpu().contiguous().numpy().data)
        return state.hexdigest()


def _check_images(images: Tensor) -> None:
    if images.dtype != torch.uint8:
        raise InvalidInput(
            f"images are {images.dtype}",
            why="they are stored as torch.uint8 in 0..255",
            remedy="for floats in [0, 1] say (images * 255).round().to(torch.uint8)",
        )
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape[2:]:
        raise InvalidInput(
            f"images have shape {tuple(images.shape)}",
            why="it must be (N, C, H, W) with 1 or 3 channels",
            remedy="for (N, H, W, C) arrays say images.permute(0, 3, 1, 2)",
        )
    if len(images) == 0:
        raise InvalidInput("there are no images", why="a set needs at least one")


def _check_labels(labels: Tensor, images: Tensor) -> None:
    if labels.dtype != torch.int64:
        raise InvalidInput(f"labels are {labels.dtype}", why="they must be torch.int64")
    if labels.shape != (len(images),):
        raise InvalidInput(
            f"labels have shape {tuple(labels.shape)}",
            why=f"{len(images)} images need labels of shape ({len(images)},)",
        )
    if labels.device != images.device:
        raise InvalidInput(f"labels are on {labels.device}, images on {images.device}")
