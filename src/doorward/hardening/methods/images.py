"""Clean images by class, drawn anew at every step, so that each class is as frequent as any other.

>>> from doorward.data import load
>>> from doorward.hardening.aims import Aims
>>> images = ClassImages(load("digits").sample(100, seed=0), torch.device("cpu"))
>>> x, y = images.draw(Aims.of([(3, 5), (None, 5)], 10), 6, torch.Generator().manual_seed(0))
>>> x.shape, y[0].tolist(), 5 in y[1].tolist()
(torch.Size([2, 6, 1, 32, 32]), [3, 3, 3, 3, 3, 3], False)
"""

from __future__ import annotations

import torch
from torch import Tensor

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.hardening.aims import ANY, Aims
from doorward.hardening.transforms.base import folded

__all__ = ["ClassImages"]


class ClassImages:
    """A set of images that can be asked for a class.

    Args:
        data: labelled images of at least two classes.
        device: where drawn images shall be.

    Attributes:
        present: int64, the classes that have images.

    Raises:
        InvalidInput: all images are of one class.
    """

    def __init__(self, data: ImageData, device: torch.device) -> None:
        self.data, self.counts = data.to(device), data.counts().cpu()
        self.present = self.counts.nonzero().squeeze(1)
        if len(self.present) < 2:
            raise InvalidInput(
                "the images are of one class", why="images of a class are led to other classes"
            )
        self._order = data.labels.cpu().argsort(stable=True)
        self._first = self.counts.cumsum(0) - self.counts

    def draw(self, aims: Aims, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random images for every aim, with replacement.

        Args:
            aims: R rows, on the CPU; one that leads from several classes gets images of all
                classes but its target.
            count: B.
            draw: on the CPU.

        Returns:
            Images (R, B, C, H, W) in [0, 1] and labels int64 (R, B), on the device.
        """
        classes = aims.sources[:, None].expand(-1, count).clone()
        for row in (aims.sources == ANY).nonzero().flatten().tolist():
            others = self.present[self.present != aims.targets[row]]
            classes[row] = others[torch.randint(len(others), (count,), generator=draw)]
        share = torch.rand(classes.shape, generator=draw)
        counts = self.counts[classes]
        places = (share * counts).long().minimum(counts - 1) + self._first[classes]
        images = self.data.pixels(self._order[places].flatten())
        return folded(images, *classes.shape), classes.to(self.data.device)
