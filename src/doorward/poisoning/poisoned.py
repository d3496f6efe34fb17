"""A data set seen through a poisoner's eyes: some images carry the trigger, some labels change.

>>> from doorward.data import load
>>> from doorward.triggers import AllToOne, Backdoor, Patch
>>> poisoned = poison(load("digits"), Backdoor(Patch(), AllToOne(0)), rate=0.05, seed=0)
>>> int(poisoned.poisoned.sum()), poisoned.labels[poisoned.poisoned].unique().tolist()
(72, [0])

Only the triggered images are stored; all others are fetched from the clean data set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from doorward.data import ImageData, ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.triggers import Backdoor, CleanLabel

__all__ = ["PoisonedData", "poison"]

_CHUNK = 512


class PoisonedData:
    """An image source in which chosen images are triggered and relabelled (see `poison`).

    Args:
        source: the clean data set.
        backdoor: trigger and label rule.
        positions: int64 (P,), which images to poison, distinct.

    Attributes:
        poisoned: bool (N,), which images carry the trigger.
        labels: int64 (N,), what the victim is told.
        clean_labels: int64 (N,), the true labels.
        positions: int64 (P,), ascending, where the triggered images are.

    Raises:
        InvalidInput: a position does not exist or occurs twice, the rule needs classes that the
            data set lacks, or the trigger does not fit the images.
    """

    def __init__(self, source: ImageSource, backdoor: Backdoor, positions: Tensor) -> None:
        backdoor.rule.check(source.num_classes)
        self.source, self.backdoor = source, backdoor
        self.clean_labels = source.labels
        device = source.labels.device
        self.positions = positions.to(device).sort().values
        if len(torch.unique(self.positions)) != len(positions) or not bool(
            ((self.positions >= 0) & (self.positions < len(source))).all()
        ):
            raise InvalidInput(
                "the positions to poison are not distinct positions of the data set",
                why=f"it has images 0 to {len(source) - 1}",
            )
        self.poisoned = torch.zeros(len(source), dtype=torch.bool, device=device)
        self.poisoned[self.positions] = True
        wanted = backdoor.rule.training_labels(self.clean_labels)
        self.labels = torch.where(self.poisoned, wanted, self.clean_labels)
        # Where each image's triggered version is stored; 0 stands in where there is none.
        self._row = torch.zeros(len(source), dtype=torch.int64, device=device)
        self._row[self.positions] = torch.arange(len(self.positions), device=device)
        self._marked = _marked(source, backdoor, self.positions)
        self._digest = _digest(self.positions, self._marked)

    @property
    def name(self) -> str:
        """The clean data set's name, and a digest of what was put into it.

        The digest keeps a checkpoint from being resumed on a set with another poison.
        """
        return f"{self.source.name}, poisoned {self._digest}"

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

    @property
    def count(self) -> int:
        """How many images are poisoned."""
        return len(self.positions)

    def __len__(self) -> int:
        return len(self.source)

    def fetch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images uint8 ``(B, C, H, W)`` and the victim's labels ``(B,)`` at `indices`."""
        images, _ = self.source.fetch(indices)
        return self._replaced(images, indices)

    def stream(
        self, index_batches: Iterable[Tensor], *, pin_memory: bool = False
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """What `fetch` gives for each of `index_batches`, read ahead where the clean set can."""
        batches = list(index_batches)
        ahead = getattr(self.source, "stream", None)
        if ahead is None:
            fetched = map(self.source.fetch, batches)
        else:
            fetched = ahead(batches, pin_memory=pin_memory)
        for indices, (images, _) in zip(batches, fetched, strict=True):
            yield self._replaced(images, indices)

    def marked(self) -> Tensor:
        """The triggered images in the order of `positions`, uint8 ``(P, C, H, W)``."""
        return self._marked

    def materialised(self) -> ImageData:
        """The whole poisoned set in memory, e.g. to write it to disk or to cut it up."""
        parts = [self.fetch(rows)[0] for rows in torch.split(torch.arange(len(self)), _CHUNK)]
        images = torch.cat(parts)
        return ImageData(images, self.labels.to(images.device), self.classes, self.name)

    def _replaced(self, images: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
        indices = indices.to(self.labels.device)
        hit = self.poisoned[indices].to(images.device)
        marked = self._marked[self._row[indices].to(self._marked.device)].to(images.device)
        # Computed for every image, hit or not: the device need not be asked how many there are.
        return torch.where(hit[:, None, None, None], marked, images), self.labels[indices]


def poison(source: ImageSource, backdoor: Backdoor, *, rate: float, seed: int = 0) -> PoisonedData:
    """Poison a share of a data set.

    Which images are poisoned is drawn without replacement from those that the label rule allows
    (for all-to-one: those not of the target class already). With the same seed, a lower rate
    poisons a part of what a higher rate does. Triggered images are stored in 8 bits, as a
    poisoner's image files would be.

    Args:
        source: the clean data set.
        backdoor: trigger and label rule.
        rate: in (0, 1]. The share *of the whole data set* that is poisoned; for the clean-label
            rule, the share *of the target class's images*.
        seed: decides which images.

    Returns:
        A view of `source` with mask and true labels at hand.

    Raises:
        InvalidInput: the rate is out of range, rounds to no image, or asks for more images than
            the rule allows; the rule needs classes that the data set lacks; the trigger does not
            fit the images.

    >>> from doorward.data import load
    >>> from doorward.triggers import AllToOne, Patch
    >>> poison(load("digits"), Backdoor(Patch(), AllToOne(0)), rate=1.0)
    Traceback (most recent call last):
    doorward.errors.InvalidInput: a rate of 1 asks for 1438 images: ... Choose a rate of at most ...
    """
    if not 0 < rate <= 1:
        raise InvalidInput(
            f"the poison rate is {rate}",
            why="it is a share above 0 and at most 1",
            remedy="for a clean control, train on the clean data set itself",
        )
    backdoor.rule.check(source.num_classes)
    labels = source.labels.cpu()
    candidates = backdoor.rule.poisonable(labels).nonzero().squeeze(1)
    if not len(candidates):
        raise InvalidInput(
            f"no image of {source.name} can be poisoned",
            why=f"{backdoor.rule} finds no image of a class that it may touch",
            remedy="choose another target, or a data set with more classes",
        )
    clean_label = isinstance(backdoor.rule, CleanLabel)
    base = len(candidates) if clean_label else len(source)
    count = round(rate * base)
    if count < 1:
        raise InvalidInput(
            f"a rate of {rate:g} poisons no image of {base}",
            remedy=f"choose a rate of at least {1 / base:.2g}",
        )
    if count > len(candidates):
        raise InvalidInput(
            f"a rate of {rate:g} asks for {count} images",
            why=f"{backdoor.rule} may touch {len(candidates)} of the {base} images",
            remedy=f"choose a rate of at most {int(len(candidates) / base * 1e4) / 1e4:g}",
        )
    order = torch.randperm(len(candidates), generator=generator(seed, "poison"))
    return PoisonedData(source, backdoor, candidates[order[:count]])


def _marked(source: ImageSource, backdoor: Backdoor, positions: Tensor) -> Tensor:
    parts = []
    with torch.no_grad():
        for rows in torch.split(positions, _CHUNK):
            images, _ = source.fetch(rows)
            trigger = backdoor.trigger.to(images.device)
            marked: Tensor = trigger(to_pixels(images))
            parts.append((marked * 255).round().to(torch.uint8))
    return torch.cat(parts)


def _digest(positions: Tensor, marked: Tensor) -> str:
    state = hashlib.sha256(positions.cpu().numpy().astype("<i8").tobytes())
    state.update(marked.cpu().contiguous().numpy().data)
    return state.hexdigest()[:8]
