"""What preparations need of a data set: some of its images in memory, and others in their place.

>>> from doorward.data import load
>>> digits = load("digits")
>>> black = torch.zeros(2, 1, 32, 32, dtype=torch.uint8)
>>> view = Replaced(digits, torch.tensor([5, 3]), black)
>>> images, labels = view.fetch(torch.tensor([2, 3]))
>>> images.amax((1, 2, 3)).tolist()[1], torch.equal(labels, digits.labels[2:4])
(0, True)
>>> gathered(digits, 100, seed=0, labelled=False).classes
('image',)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from doorward.data import ImageData, ImageSource
from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.training import Recipe

__all__ = ["Replaced", "gathered", "recipe_of_steps"]

_CHUNK = 512


class Replaced:
    """An image source in which some images are others; labels stay as they are.

    Args:
        source: the data set.
        rows: int64 (R,), which images to replace, distinct.
        images: uint8 (R, C, H, W), what takes their place, in the order of `rows`.

    Attributes:
        source: the data set below.
        rows: which images are replaced.
        labels: int64 (N,), the data set's.

    Raises:
        InvalidInput: a row does not exist or occurs twice, or the images are not such.
    """

    def __init__(self, source: ImageSource, rows: Tensor, images: Tensor) -> None:
        if images.dtype != torch.uint8 or images.shape != (len(rows), *source.image_shape):
            raise InvalidInput(
                f"{len(rows)} images of {source.name} cannot be replaced by {images.dtype} "
                f"{tuple(images.shape)}",
                why=f"uint8 ({len(rows)}, {', '.join(map(str, source.image_shape))}) is needed",
            )
        rows = rows.to(source.labels.device)
        if len(torch.unique(rows)) != len(rows) or bool(((rows < 0) | (rows >= len(source))).any()):
            raise InvalidInput(
                "the images to replace are not distinct images of the data set",
                why=f"it has images 0 to {len(source) - 1}",
            )
        self.source, self.labels = source, source.labels
        self.rows, self._images = rows, images
        # Where each image's replacement is stored; -1 where it has none.
        self._row = torch.full((len(source),), -1, device=self.labels.device)
        self._row[rows] = torch.arange(len(rows), device=self.labels.device)
        state = hashlib.sha256(rows.cpu().numpy().astype("<i8").tobytes())
        state.update(images.cpu().contiguous().numpy().data)
        self._digest = state.hexdigest()[:8]

    @property
    def name(self) -> str:
        """The data set's name, and a digest of what was put into it."""
        return f"{self.source.name}, prepared {self._digest}"

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names."""
        return self.source.classes

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return self.source.num_classes

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return self.source.image_shape

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 ``(B, C, H, W)`` and labels ``(B,)`` at `indices`."""
        images, labels = self.source.fetch(indices)
        return self._replaced(images, indices), labels

    def stream(
        self, index_batches: Iterable[Tensor], *, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `fetch` gives for each of `index_batches`, read ahead where the data set can."""
        batches = list(index_batches)
        ahead = getattr(self.source, "stream", None)
        if ahead is None:
            fetched = map(self.source.fetch, batches)
        else:
            fetched = ahead(batches, pin_memory=pin_memory)
        for indices, (images, labels) in zip(batches, fetched, strict=True):
            yield self._replaced(images, indices), labels

    def _replaced(self, images: Tensor, indices: Tensor) -> Tensor:
        if not len(self._images):
            return images
        row = self._row[indices.to(self._row.device)].to(self._images.device)
        others = self._images[row.clamp_min(0)].to(images.device)
        return torch.where((row >= 0).to(images.device)[:, None, None, None], others, images)


def gathered(source: ImageSource, count: int, *, seed: int, labelled: bool = True) -> ImageData:
    """At most `count` random images of a source, in memory.

    Args:
        source: where they come from.
        count: how many, at least 1; all if there are fewer.
        seed: of the choice.
        labelled: keep labels and classes; else every image is of the one class "image", for
            networks that answer something else than classes.
    """
    order = torch.randperm(len(source), generator=generator(seed, "gathered"))[:count]
    parts = [source.fetch(rows) for rows in torch.split(order, _CHUNK)]
    images = torch.cat([images for images, _ in parts])
    if labelled:
        labels, classes = torch.cat([labels for _, labels in parts]), source.classes
    else:
        labels, classes = torch.zeros(len(images), dtype=torch.int64), ("image",)
    return ImageData(images, labels.to(images.device), classes, source.name)


def recipe_of_steps(images: int, steps: int, batch_size: int, **options: object) -> Recipe:
    """A recipe for so many steps of Adam, whatever the number of images.

    >>> recipe_of_steps(1000, 300, 64, lr=1e-3).steps(1000)
    300
    """
    epochs = steps / -(-images // batch_size)
    settings = {"optimizer": "adam", "divergence": 1e6, **options}
    return Recipe.from_dict({"epochs": epochs, "batch_size": batch_size, **settings})
