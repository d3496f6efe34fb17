"""Images by class, so that every pair can be shown its own, all in one batch.

pool = Pool.of(clean, 64, device, draw)
shown = pool.shown(aims, torch.arange(8))        # 8 images for each row
shown.images.shape, shown.labels.shape           # (P, 8, C, H, W), (P, 8)
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from doorward.data import ImageData, to_pixels
from doorward.errors import InvalidInput
from doorward.hardening.aims import ANY, Aims

__all__ = ["Pool", "Shown", "require_images"]


class Shown(NamedTuple):
    """What some rows are shown.

    Attributes:
        distinct: (U, B, C, H, W) in [0, 1]: rows that look at the same images share them.
        inverse: int64 (R,), which of them each row looks at.
        labels: int64 (R, B).
        counted: float (R, B), 0 where an image stands in for one that a class does not have.
    """

    distinct: Tensor
    inverse: Tensor
    labels: Tensor
    counted: Tensor

    @property
    def images(self) -> Tensor:
        """(R, B, C, H, W)."""
        return self.distinct.index_select(0, self.inverse)

    def mean(self, values: Tensor) -> Tensor:
        """Mean of values (R, B) over the images that count, (R,)."""
        return (values * self.counted).sum(1) / self.counted.sum(1).clamp_min(1)


class Pool:
    """The same number of images of every class, on the device, as they are stored.

    Args:
        images: uint8 (K, n, C, H, W).
        valid: bool (K, n), False where a class has no such image.
    """

    def __init__(self, images: Tensor, valid: Tensor) -> None:
        self.images, self.valid = images, valid
        self.present = valid.any(1).nonzero().squeeze(1)

    @classmethod
    def of(
        cls, data: ImageData, per_class: int, device: torch.device, draw: torch.Generator
    ) -> Self:
        """Up to so many images of each class, drawn at random."""
        count = min(per_class, int(data.counts().max()))
        images = torch.zeros((data.num_classes, count, *data.image_shape), dtype=torch.uint8)
        valid = torch.zeros(data.num_classes, count, dtype=torch.bool)
        stored, labels = data.images.cpu(), data.labels.cpu()
        for label in range(data.num_classes):
            rows = (labels == label).nonzero().squeeze(1)
            rows = rows[torch.randperm(len(rows), generator=draw)][:count]
            images[label, : len(rows)] = stored[rows]
            valid[label, : len(rows)] = True
        return cls(images.to(device), valid.to(device))

    def __len__(self) -> int:
        return self.valid.shape[1]

    def shown(self, aims: Aims, items: Tensor, orders: Tensor | None = None) -> Shown:
        """Images for every aim.

        Args:
            aims: rows, on the pool's device.
            items: int64 (B,) in [0, n): which image of each class. An aim that leads from several
                classes is shown them in turn.
            orders: int64 (S, n): for each start, the order in which it goes through the images.
        """
        looks = torch.stack([aims.sources, _mixed_target(aims), aims.starts], 1)
        distinct, inverse = torch.unique(looks, dim=0, return_inverse=True)
        sources, targets, starts = distinct.unbind(1)
        places = items.expand(len(distinct), -1)
        if orders is not None:
            places = orders[starts].gather(1, places)
        classes = sources[:, None].expand_as(places)
        for row in (sources == ANY).nonzero().squeeze(1).tolist():
            others = self.present[self.present != targets[row]]
            classes = classes.clone()
            classes[row] = others[places[row] % len(others)]
        images = to_pixels(self.images[classes, places])
        counted = self.valid[classes, places].float()
        return Shown(images, inverse, classes[inverse], counted[inverse])


def require_images(data: ImageData, aims: Aims, least: int = 4) -> None:
    """Raise unless every class that an aim leads from has enough images.

    Raises:
        InvalidInput: one has not; the message names it.
    """
    counts = data.counts()
    mixed = bool((aims.sources == ANY).any())
    for label in sorted(set(aims.sources.tolist()) - {ANY}):
        if counts[label] < least:
            raise InvalidInput(
                f"class {label} ({data.classes[label]}) has {int(counts[label])} clean images",
                why=f"attacks from it need at least {least}, some of them to measure on",
                remedy="give more images, or leave its pairs out",
            )
    if mixed and int((counts >= least).sum()) < 2:
        raise InvalidInput(
            "the clean images are of one class", why="attacks from all classes need several"
        )


def _mixed_target(aims: Aims) -> Tensor:
    """The target where it decides which classes are shown; -1 elsewhere."""
    return torch.where(aims.sources == ANY, aims.targets, ANY)
