"""A distribution of a few fixed patches: points, to be stamped and unlearnt like any other.

>>> points = Points.of(3, torch.rand(10, 3, 3, 3))
>>> points.only([0]).patches.shape                      # one of them alone
torch.Size([1, 3, 3, 3])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.scanning.mesa.stamping import paste, random_places
from doorward.scanning.recovered import RECOVERED, Recovered

__all__ = ["Points"]

LARGEST = 2**24
"""Pixels of all points, so that a damaged description cannot ask for terabytes."""


@RECOVERED.register("points", paper="Qiao et al. 2019, Generative Distribution Modeling (baseline)")
class Points(Recovered):
    """One or several fixed square patches, equally likely, at places of their own.

    Args:
        target: the class.
        count: how many.
        channels: of the patches.
        size: their side.
        success: of each, where it was searched; None if it was not measured.

    >>> cross = Points.of(3, torch.ones(1, 1, 2, 2))
    >>> cross.stamp(torch.zeros(5, 1, 8, 8), torch.Generator()).sum((1, 2, 3)).tolist()
    [4.0, 4.0, 4.0, 4.0, 4.0]
    """

    patches: Tensor

    def __init__(
        self,
        target: int,
        *,
        count: int,
        channels: int,
        size: int,
        success: Sequence[float] | None = None,
    ) -> None:
        super().__init__(target)
        sides = {"count": count, "channels": channels, "size": size}
        for name, value in sides.items():
            if type(value) is not int or value < 1:
                raise InvalidInput(f"{name} is {value!r}", why="a whole number from 1 is expected")
        if count * channels * size * size > LARGEST:
            raise InvalidInput(f"{sides} are too many pixels", why=f"{LARGEST} are the most")
        self.success = None if success is None else tuple(_share(share) for share in success)
        if self.success is not None and len(self.success) != count:
            raise InvalidInput(f"{len(self.success)} successes are given for {count} points")
        self.register_buffer("patches", torch.full((count, channels, size, size), 0.5))

    @classmethod
    def of(cls, target: int, patches: Tensor, *, success: Sequence[float] | None = None) -> Points:
        """Points from patches (K, C, s, s) in [0, 1]; they are copied.

        Raises:
            InvalidInput: they are of another shape, or leave [0, 1].
        """
        if patches.ndim != 4 or patches.shape[2] != patches.shape[3]:
            raise InvalidInput(f"patches are {tuple(patches.shape)}", why="(K, C, s, s) is needed")
        if not bool(((patches >= 0) & (patches <= 1)).all()):
            raise InvalidInput("patches have values outside [0, 1]")
        count, channels, size, _ = patches.shape
        found = cls(target, count=count, channels=channels, size=size, success=success)
        found.patches.copy_(patches)
        return found

    def only(self, numbers: Sequence[int]) -> Points:
        """Some of the points."""
        success = None if self.success is None else [self.success[i] for i in numbers]
        found = self.of(self.target, self.patches[list(numbers)].cpu(), success=success)
        return found.to(self.patches.device)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        count, channels, size, _ = self.patches.shape
        return {
            "target": self.target,
            "count": count,
            "channels": channels,
            "size": size,
            "success": None if self.success is None else list(self.success),
        }

    @torch.no_grad()
    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Overwrite a square of each image with one of the points, at a place of its own."""
        count, channels, height, width = images.shape
        _, own, size, _ = self.patches.shape
        if channels != own or size > min(height, width):
            raise InvalidInput(
                f"patches of {own}x{size}x{size} do not fit into images of "
                f"{channels}x{height}x{width}",
                why="these triggers were recovered on other images",
            )
        rows, columns = random_places(count, (height - size, width - size), draw)
        patches = self.pictures(count, draw).to(images.device)
        return paste(images, patches, rows, columns)

    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        """Points drawn at random, (count, C, s, s) in [0, 1]."""
        which = torch.randint(len(self.patches), (count,), generator=draw)
        return self.patches[which.to(self.patches.device)]


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidInput(f"a success is {value!r}", why="a share from 0 to 1 is expected")
    return float(value)
