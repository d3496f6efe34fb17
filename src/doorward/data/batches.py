"""Batches for training: shuffled, augmented, on the device, exact to resume and to share.

>>> from doorward.data import load
>>> batches = Batches(load("digits"), 128, seed=0)
>>> batch = next(batches.epoch(0))
>>> batch.images.shape, batch.step, len(batches)
(torch.Size([128, 1, 32, 32]), 0, 12)

Order and augmentation of a step depend on (seed, epoch, step) alone: training that starts again in
the middle of an epoch sees the same batches, and the batches of `world_size` processes together
are the batch of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from doorward.data.augmentation import Augment, apply_draws, draw
from doorward.data.source import ImageData, ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.randomness import generator

__all__ = ["Batch", "Batches"]


@dataclass(frozen=True, slots=True)
class Batch:
    """One step's images.

    Args:
        images: float32 ``(B, C, H, W)`` in ``[0, 1]``, on the device.
        labels: int64 ``(B,)``, on the device.
        indices: int64 ``(B,)``: positions in the source, on the device of `images`.
        step: number of the step since training began (from 0).
        epoch: number of the epoch (from 0).
        size_global: images of this step over all processes.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    step: int
    epoch: int
    size_global: int

    def __len__(self) -> int:
        return len(self.labels)


@runtime_checkable
class _Streaming(Protocol):
    def stream(
        self, index_batches: Iterable[Tensor], *, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]: ...


class Batches:
    """The batches of a source, epoch by epoch.

    Args:
        source: where images come from. An `ImageData` is moved to `device` once, as uint8; one
            that needs more than half of a GPU's free memory stays where it is, and its batches
            are sent one by one.
        batch_size: images per step, over all processes.
        seed: of order and augmentation.
        augment: random changes; None for none.
        shuffle: a new order each epoch; False keeps the source's order.
        drop_last: leave out an incomplete last batch.
        rank: this process, 0..world_size-1; it gets every `world_size`-th image of a batch.
        world_size: number of processes.
        device: where batches shall be; None for where the source is.

    Raises:
        InvalidInput: sizes do not fit (no batch at all, or one smaller than `world_size`).
    """

    def __init__(
        self,
        source: ImageSource,
        batch_size: int,
        *,
        seed: int = 0,
        augment: Augment | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        device: torch.device | str | None = None,
    ) -> None:
        self.device = torch.device(device) if device is not None else source.labels.device
        self.source = _placed(source, self.device)
        self.batch_size, self.seed, self.shuffle = batch_size, seed, shuffle
        self.augment = augment or Augment.none()
        self.rank, self.world_size = rank, world_size
        if batch_size < 1 or not 0 <= rank < world_size:
            raise InvalidInput(f"batch size {batch_size} or rank {rank} of {world_size} is wrong")
        whole, rest = divmod(len(source), batch_size)
        self.steps = whole if drop_last or not rest else whole + 1
        if self.steps == 0:
            raise InvalidInput(
                f"{len(source)} images make no batch of {batch_size}",
                why="incomplete batches are dropped",
                remedy="choose a smaller batch size, or drop_last=False",
            )
        smallest = rest if rest and not drop_last else batch_size
        if smallest < world_size:
            raise InvalidInput(
                f"a batch of {smallest} images cannot be shared by {world_size} processes",
                remedy="choose another batch size, or drop_last=True",
            )

    def __len__(self) -> int:
        """Steps per epoch."""
        return self.steps

    def epoch(self, number: int, *, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch.

        Args:
            number: of the epoch, from 0.
            start: first step within the epoch, to resume.
        """
        if number < 0 or not 0 <= start <= self.steps:
            raise InvalidInput(
                f"there is no step {start} in epoch {number}", why=f"epochs have {self.steps} steps"
            )
        shared = self.order(number).to(self.source.labels.device)
        steps = range(start, self.steps)
        mine = [self._rows(shared, step)[self.rank :: self.world_size] for step in steps]
        for step, indices, (images, labels) in zip(steps, mine, self._fetch(mine), strict=True):
            yield self._batch(number, step, indices, images, labels)

    def order(self, number: int) -> Tensor:
        """Positions of all images in the order of epoch `number`, int64 ``(N,)`` on the CPU."""
        if not self.shuffle:
            return torch.arange(len(self.source))
        return torch.randperm(len(self.source), generator=generator(self.seed, "order", number))

    def _rows(self, order: Tensor, step: int) -> Tensor:
        return order[step * self.batch_size : (step + 1) * self.batch_size]

    def _fetch(self, index_batches: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        if isinstance(self.source, _Streaming):
            return self.source.stream(index_batches, pin_memory=self.device.type == "cuda")
        return map(self.source.fetch, index_batches)

    def _batch(self, epoch: int, step: int, rows: Tensor, images: Tensor, labels: Tensor) -> Batch:
        size = min(self.batch_size, len(self.source) - step * self.batch_size)
        images = images.to(self.device, non_blocking=True)
        if self.augment.active:
            # Every process draws for the whole batch and keeps its share.
            draws = draw(size, generator(self.seed, "augmentation", epoch, step))
            images = apply_draws(images, self.augment, draws[self.rank :: self.world_size])
        else:
            images = to_pixels(images)
        return Batch(
            images,
            labels.to(self.device, non_blocking=True),
            rows.to(self.device, non_blocking=True),
            step=epoch * self.steps + step,
            epoch=epoch,
            size_global=size,
        )


def _placed(source: ImageSource, device: torch.device) -> ImageSource:
    if not isinstance(source, ImageData):
        return source
    if device.type == "cuda" and source.device != device:
        free, _ = torch.cuda.mem_get_info(device)
        if source.images.nbytes > free / 2:  # the other half is the network's
            return source
    return source.to(device)
