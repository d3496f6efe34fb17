"""Image sets larger than memory: files decoded ahead of training by worker processes.

>>> import pathlib, tempfile
>>> from PIL import Image
>>> folder = pathlib.Path(tempfile.mkdtemp()); (folder / "red").mkdir()
>>> Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "red" / "a.png")
>>> from doorward.data import load_folder
>>> source = load_folder(folder, stream=True)
>>> images, labels = source.fetch(torch.tensor([0]))
>>> images.shape, labels.tolist(), source.classes
(torch.Size([1, 3, 8, 8]), [0], ('red',))

It is an image source like `ImageData`: `Batches` yields bitwise the same batches for both.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Self

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from doorward.data.image_files import image_shape, read_image, read_listing, require_shape
from doorward.data.registry import Listing
from doorward.data.selection import Selection
from doorward.data.source import ImageData
from doorward.errors import BadFile, DoorwardError, InvalidInput

__all__ = ["StreamedImages"]


class StreamedImages(Selection):
    """Labelled image files, decoded when they are needed.

    Args:
        listing: the files.
        size: side to resample to; None for the listing's own choice.
        channels: 1 or 3; None for what the first file has.
        workers: processes that decode ahead; None for one per CPU, at most 8; 0 for none.
        prefetch: batches that each worker keeps ready.

    Raises:
        BadFile: the first file is no image.
        InvalidInput: there are no files, or an option is out of range.
    """

    def __init__(
        self,
        listing: Listing,
        *,
        size: int | None = None,
        channels: int | None = None,
        workers: int | None = None,
        prefetch: int = 4,
    ) -> None:
        if not listing.paths:
            raise InvalidInput(f"{listing.name}: there are no images")
        self.listing, self.name, self.classes = listing, listing.name, listing.classes
        self.labels = torch.tensor(listing.labels, dtype=torch.int64)
        self.size, depth = image_shape(listing, size, channels)
        self.image_shape = (depth, *self.size)
        self.resample = size is not None or listing.size is not None
        self.workers = min(8, os.cpu_count() or 1) if workers is None else workers
        self.prefetch = prefetch
        if self.workers < 0 or prefetch < 1:
            raise InvalidInput(f"{self.workers} workers or prefetch {prefetch} is not possible")

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Decode the images at `indices` here and now: uint8 ``(B, C, H, W)``, labels ``(B,)``.

        Raises:
            BadFile: a file cannot be decoded.
            InvalidInput: no size was asked for and the files differ in size.
        """
        wanted = self.size if self.resample else None
        images = torch.empty(len(indices), *self.image_shape, dtype=torch.uint8)
        for row, position in enumerate(indices.tolist()):
            path = self.listing.paths[position]
            image = read_image(path, wanted, self.image_shape[0])
            images[row] = require_shape(path, image, self.size)
        return images, self.labels[indices]

    def stream(
        self, index_batches: Iterable[Tensor], *, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `fetch` gives for each of `index_batches`, in order, decoded ahead by the workers.

        Args:
            index_batches: int64 positions of each batch.
            pin_memory: put the images in page-locked memory, from which copies to a GPU overlap.
        """
        loader: DataLoader[tuple[Tensor, Tensor] | _Failure] = DataLoader(
            _Decoder(self),
            batch_size=None,
            sampler=list(index_batches),
            num_workers=self.workers,
            prefetch_factor=self.prefetch if self.workers else None,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # it draws a seed for its workers; not from the global one
        )
        for answer in loader:
            if isinstance(answer, _Failure):
                raise answer.error()
            yield answer[0], answer[1]

    def subset(self, indices: Tensor | Sequence[int]) -> Self:
        """The images at `indices` (int64 positions or a bool mask), in that order."""
        positions = self._positions(indices).tolist()
        smaller = replace(
            self.listing,
            paths=tuple(self.listing.paths[position] for position in positions),
            labels=tuple(self.listing.labels[position] for position in positions),
        )
        return type(self)(
            smaller,
            size=self._asked_size(),
            channels=self.image_shape[0],
            workers=self.workers,
            prefetch=self.prefetch,
        )

    def in_memory(self) -> ImageData:
        """Everything decoded into one `ImageData`."""
        return read_listing(self.listing, size=self._asked_size(), channels=self.image_shape[0])

    def _asked_size(self) -> int | None:
        return self.size[0] if self.resample else None


class _Failure:
    """An error on its way out of a worker: the parts of its message, which can be pickled."""

    def __init__(self, cause: DoorwardError) -> None:
        self.bad_file = isinstance(cause, BadFile)
        self.what, self.why, self.remedy = cause.what, cause.why, cause.remedy

    def error(self) -> DoorwardError:
        kind = BadFile if self.bad_file else InvalidInput
        return kind(self.what, why=self.why, remedy=self.remedy)


class _Decoder(Dataset["tuple[Tensor, Tensor] | _Failure"]):
    def __init__(self, source: StreamedImages) -> None:
        self.source = source

    def __getitem__(self, indices: Tensor) -> tuple[Tensor, Tensor] | _Failure:
        try:
            return self.source.fetch(indices)
        except DoorwardError as error:
            return _Failure(error)
