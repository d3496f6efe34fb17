"""Choosing images by label: deterministic, class-balanced samples and splits.

>>> labels = torch.tensor([0, 0, 0, 0, 1, 1, 1, 1])
>>> train, test = split_indices(labels, (0.75, 0.25), seed=0)
>>> labels[train].tolist(), labels[test].tolist()
([0, 0, 0, 1, 1, 1], [0, 1])

`Selection` gives every image source the same methods on top (`split`, `sample`, `of_class`, ...).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from doorward.errors import InvalidInput, UnknownName
from doorward.randomness import generator

__all__ = ["Selection", "sample_indices", "split_indices"]


class Selection(ABC):
    """Mix-in: what can be chosen from labelled images, given `labels`, `classes` and `subset`."""

    name: str
    labels: Tensor
    classes: tuple[str, ...]

    @abstractmethod
    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at `indices`, in that order; classes keep their numbers."""

    @property
    def num_classes(self) -> int:
        """How many classes the labels may take."""
        return len(self.classes)

    def __len__(self) -> int:
        return int(self.labels.shape[0])

    def counts(self) -> Tensor:
        """Images per class, int64 ``(K,)``."""
        return torch.bincount(self.labels, minlength=self.num_classes)

    def of_class(self, wanted: int | str) -> Self:
        """Only the images of one class, given by number or by name."""
        return self.subset((self.labels == self._class_number(wanted)).nonzero().flatten())

    def without_class(self, unwanted: int | str) -> Self:
        """All images but those of one class; the other classes keep their numbers."""
        return self.subset((self.labels != self._class_number(unwanted)).nonzero().flatten())

    def sample(self, count: int, *, seed: int, balanced: bool = True) -> Self:
        """Draw `count` images without replacement (see `sample_indices`)."""
        return self.subset(sample_indices(self.labels, count, seed=seed, balanced=balanced))

    def split(self, *parts: float, seed: int) -> tuple[Self, ...]:
        """Cut into disjoint, class-balanced parts (see `split_indices`).

        Args:
            parts: fractions that sum to at most 1, or whole numbers of images.
            seed: decides which image goes where.
        """
        return tuple(self.subset(part) for part in split_indices(self.labels, parts, seed=seed))

    def _positions(self, indices: Tensor | Sequence[int]) -> Tensor:
        """Positions (int64) or a bool mask as positions, checked, on the device of the labels."""
        positions = torch.as_tensor(indices, device=self.labels.device)
        if positions.dtype == torch.bool:
            if positions.shape != self.labels.shape:
                raise InvalidInput(
                    f"a mask of shape {tuple(positions.shape)} does not fit {len(self)} images"
                )
            positions = positions.nonzero().flatten()
        positions = positions.flatten()
        if len(positions) == 0:
            raise InvalidInput(f"{self.name}: no images are selected")
        if positions.is_floating_point():
            raise InvalidInput(f"{self.name}: positions are {positions.dtype}, not whole numbers")
        positions = positions.long()
        low, high = int(positions.min()), int(positions.max())
        if low < 0 or high >= len(self):
            raise InvalidInput(
                f"{self.name}: index {low if low < 0 else high} is out of range",
                why=f"there are {len(self)} images, numbered from 0",
            )
        return positions

    def _class_number(self, wanted: int | str) -> int:
        if isinstance(wanted, str):
            if wanted not in self.classes:
                raise UnknownName.of("class", wanted, self.classes)
            return self.classes.index(wanted)
        if not 0 <= wanted < self.num_classes:
            raise InvalidInput(
                f"there is no class {wanted}", why=f"classes are 0..{self.num_classes - 1}"
            )
        return wanted


def sample_indices(labels: Tensor, count: int, *, seed: int, balanced: bool = True) -> Tensor:
    """Draw `count` distinct positions.

    Args:
        labels: int64 ``(N,)``.
        count: how many, 1..N.
        seed: the same seed gives the same draw, and a smaller draw is the head of a larger one.
        balanced: as many of each class as possible (classes that run out are replaced by the
            others); otherwise every image is equally likely.

    Returns:
        int64 ``(count,)`` in the order drawn, on the device of `labels`.

    Raises:
        InvalidInput: `count` is not in 1..N.

    >>> labels = torch.tensor([0] * 90 + [1] * 10)
    >>> labels[sample_indices(labels, 8, seed=0)].bincount().tolist()
    [4, 4]
    """
    if not 1 <= count <= len(labels):
        raise InvalidInput(f"{count} images cannot be drawn from {len(labels)}")
    host = labels.cpu()
    order = torch.randperm(len(host), generator=generator(seed, "sample"))
    if balanced:
        order = order[torch.argsort(_rank_in_class(host[order])[0], stable=True)]
    return order[:count].to(labels.device)


def split_indices(labels: Tensor, parts: Sequence[float], *, seed: int) -> tuple[Tensor, ...]:
    """Disjoint positions in which every class has its share, as exactly as whole images allow.

    Args:
        labels: int64 ``(N,)``.
        parts: fractions in ``(0, 1]`` (floats) that sum to at most 1, or counts (ints >= 1) that
            sum to at most N.
        seed: decides which image goes where.

    Returns:
        One sorted int64 tensor per part. The sizes are exact (fractions: to the nearest image).

    Raises:
        InvalidInput: the parts do not fit, mix fractions with counts, or one would be empty.
    """
    sizes = _part_sizes(parts, len(labels))
    host = labels.cpu()
    shuffled = torch.randperm(len(host), generator=generator(seed, "split"))
    rank, total = _rank_in_class(host[shuffled])
    # Image r of n of its class stands at (r + 1/2)/n, so any stretch of this order holds every
    # class in proportion; ties fall in shuffled order.
    order = shuffled[torch.argsort((rank + 0.5) / total, stable=True)]
    chunks = torch.split(order[: sum(sizes)], sizes)
    return tuple(chunk.sort().values.to(labels.device) for chunk in chunks)


def _rank_in_class(labels: Tensor) -> tuple[Tensor, Tensor]:
    """For each image: how many of its class came before it, and the size of its class (float64)."""
    counts = torch.bincount(labels)
    first = counts.cumsum(0) - counts
    by_class = torch.argsort(labels, stable=True)
    rank = torch.empty_like(labels)
    rank[by_class] = torch.arange(len(labels)) - first[labels[by_class]]
    return rank, counts[labels].double()


def _part_sizes(parts: Sequence[float], available: int) -> list[int]:
    if not parts:
        raise InvalidInput("no parts are given", remedy="say e.g. split(0.9, 0.1, seed=0)")
    if all(isinstance(part, int) for part in parts):
        sizes = [int(part) for part in parts]
    elif all(isinstance(part, float) and 0 < part <= 1 for part in parts):
        if sum(parts) > 1 + 1e-9:
            raise InvalidInput(f"the fractions {tuple(parts)} sum to more than 1")
        # Rounding the running total keeps every size within one image of its fraction.
        ends = [0] + [round(sum(parts[: i + 1]) * available) for i in range(len(parts))]
        sizes = [end - start for start, end in pairwise(ends)]
    else:
        raise InvalidInput(
            f"the parts {tuple(parts)} are neither fractions in (0, 1] nor whole numbers",
            remedy="say split(0.9, 0.1, seed=0) or split(900, 100, seed=0)",
        )
    if min(sizes) < 1 or sum(sizes) > available:
        raise InvalidInput(
            f"parts of {sizes} images cannot be cut from {available}",
            why="each needs at least one image, and no image is used twice",
        )
    return sizes
