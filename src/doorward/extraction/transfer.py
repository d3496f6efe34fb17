"""What a thief has in hand: images with the victim's answers, ready for the training loop.

>>> import torch
>>> from doorward.data import load
>>> pool = load("digits").sample(8, seed=0)
>>> answers = torch.eye(3)[[0, 1, 2, 0]]
>>> stolen = from_pool(pool, torch.tensor([5, 1, 0, 2]), answers, classes=("a", "b", "c"))
>>> len(stolen), stolen.source.labels.tolist(), stolen.source.image_shape
(4, [0, 1, 2, 0], (1, 32, 32))

The labels are the victim's (the largest of each answer); those of the pool play no part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from doorward.data import ImageData, ImageSource
from doorward.errors import InvalidInput

__all__ = ["TransferSet", "from_images", "from_pool", "to_bytes"]


@dataclass(frozen=True, eq=False)
class TransferSet:
    """Images and the victim's answers to them.

    Args:
        source: the images, labelled with the victim's classes.
        answers: float ``(N, K)`` or int64 ``(N,)``, in the order of `source`.
    """

    source: ImageSource
    answers: Tensor

    def __len__(self) -> int:
        return len(self.answers)

    def __add__(self, other: TransferSet) -> TransferSet:
        """Both together; both must hold their images in memory."""
        mine, others = self.source, other.source
        if not isinstance(mine, ImageData) or not isinstance(others, ImageData):
            raise InvalidInput(f"{mine.name} and {others.name} are not both in memory")
        images = torch.cat([mine.images, others.images.to(mine.images.device)])
        labels = torch.cat([mine.labels, others.labels.to(mine.labels.device)])
        source = ImageData(images, labels, mine.classes, mine.name)
        return TransferSet(source, torch.cat([self.answers, other.answers]))


def from_pool(
    pool: ImageSource, positions: Tensor, answers: Tensor, *, classes: Sequence[str]
) -> TransferSet:
    """The pool's images at `positions` int64 ``(N,)`` with `answers` to them.

    An `ImageData` is cut in memory; of any other source a view is made, which streams if it does.
    """
    labels = labels_of(answers)
    if isinstance(pool, ImageData):
        images = pool.images.index_select(0, positions.to(pool.images.device))
        named = ImageData(images, labels.to(images.device), tuple(classes), pool.name)
        return TransferSet(named, answers)
    return TransferSet(_view(pool, positions, labels, tuple(classes)), answers)


def from_images(
    images: Tensor, answers: Tensor, *, classes: Sequence[str], name: str = "synthetic"
) -> TransferSet:
    """Images of the thief's own making, uint8 ``(N, C, H, W)``, with `answers` to them."""
    data = ImageData(images.cpu(), labels_of(answers), tuple(classes), name)
    return TransferSet(data, answers)


def labels_of(answers: Tensor) -> Tensor:
    """The class of each answer, int64 ``(N,)``."""
    return answers.argmax(dim=1) if answers.is_floating_point() else answers


def to_bytes(images: Tensor) -> Tensor:
    """Float images in ``[0, 1]`` as a service would be sent them: uint8.

    >>> to_bytes(torch.tensor([0.0, 0.5, 1.0])).tolist()
    [0, 128, 255]
    """
    return (images.detach() * 255).round().clamp_(0, 255).to(torch.uint8)


class _View:
    """Some images of a source under other labels."""

    def __init__(
        self, source: ImageSource, positions: Tensor, labels: Tensor, classes: tuple[str, ...]
    ) -> None:
        self._source, self._positions = source, positions.cpu()
        self.labels, self.classes = labels, classes
        self.name, self.image_shape = source.name, source.image_shape
        self.num_classes = len(classes)

    def __len__(self) -> int:
        return len(self._positions)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images and labels at `indices`."""
        rows = indices.cpu()
        return self._source.fetch(self._positions[rows])[0], self.labels[rows]


class _StreamedView(_View):
    """The same of a source that reads ahead."""

    def stream(
        self, index_batches: Iterable[Tensor], *, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `fetch` gives for each of `index_batches`, read ahead."""
        batches = [indices.cpu() for indices in index_batches]
        places = [self._positions[rows] for rows in batches]
        stream = self._source.stream(places, pin_memory=pin_memory)  # type: ignore[attr-defined]
        for rows, (images, _) in zip(batches, stream, strict=True):
            yield images, self.labels[rows]


def _view(
    pool: ImageSource, positions: Tensor, labels: Tensor, classes: tuple[str, ...]
) -> ImageSource:
    kind = _StreamedView if callable(getattr(pool, "stream", None)) else _View
    return kind(pool, positions, labels, classes)
