"""The recovered distribution of patches: a weighted mixture of generators, and where they go.

>>> found = PatchDistribution(3, channels=1, sizes=[2, 2], levels=[0.5, 0.9], weights=[3, 1])
>>> found.weights
(0.75, 0.25)
>>> found.stamp(torch.zeros(4, 1, 8, 8), torch.Generator()).shape
torch.Size([4, 1, 8, 8])
>>> found.at_level(0.9).weights                     # only the narrow end of the staircase
(1.0,)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.scanning.mesa.bounds import patch_side, place_of, within
from doorward.scanning.mesa.generators import Generators, Norm, Prior
from doorward.scanning.mesa.stamping import paste, random_places
from doorward.scanning.recovered import RECOVERED, Recovered

__all__ = ["PatchDistribution"]


@RECOVERED.register("patches", paper="Qiao et al. 2019, Generative Distribution Modeling")
class PatchDistribution(Recovered):
    """Square patches that send images to one class, as a staircase of generators.

    Qiao et al. (2019): the mixture of one maximum-entropy generator per level. The weights, which
    the reference code leaves out, come from `doorward.scanning.mesa.entropy.mixture_weights`.

    Args:
        target: the class.
        channels: of the patches.
        sizes: side of each component's patches.
        levels: success that each component was fitted to, in (0, 1].
        weights: of the components, from 0; divided by their sum. None for equal ones.
        places: where patches go, as shares of the rows and columns at which they still fit
            ((0, 0) is the top left corner, (1, 1) the bottom right one), equally likely; None
            for anywhere.
        side: of what the generators make, of which a smaller patch takes the top left; the
            largest size if None.
        noise: dimension of the generators' noise.
        hidden: units of their hidden layers.
        norm: their normalisation.
        prior: their noise.

    Raises:
        InvalidInput: an argument is out of range, or the components' lists differ in length.
    """

    def __init__(
        self,
        target: int,
        *,
        channels: int,
        sizes: Sequence[int],
        levels: Sequence[float],
        weights: Sequence[float] | None = None,
        places: Sequence[Sequence[float]] | None = None,
        side: int | None = None,
        noise: int = 64,
        hidden: int = 64,
        norm: Norm = "layer",
        prior: Prior = "normal",
    ) -> None:
        super().__init__(target)
        weights = [1.0] * len(sizes) if weights is None else weights
        if not len(sizes) == len(levels) == len(weights) or not sizes:
            raise InvalidInput(
                f"there are {len(sizes)} sizes, {len(levels)} levels and {len(weights)} weights",
                why="one of each per component is expected, and at least one component",
            )
        self.sizes = tuple(patch_side(size) for size in sizes)
        self.levels = tuple(within("a level", level, 1.0) for level in levels)
        raw = [within("a weight", weight, math.inf) for weight in weights]
        if not sum(raw):
            raise InvalidInput("all weights are 0")
        self.weights = tuple(weight / sum(raw) for weight in raw)
        self.places = None if places is None else tuple(place_of(place) for place in places)
        if self.places == ():
            raise InvalidInput("there are no places", remedy="leave them out for anywhere")
        side = max(self.sizes) if side is None else patch_side(side)
        if side < max(self.sizes):
            raise InvalidInput(f"side {side} is less than the largest size, {max(self.sizes)}")
        self.generators = Generators(
            len(self.sizes),
            channels=channels,
            size=side,
            noise=noise,
            hidden=hidden,
            norm=norm,
            prior=prior,
        )
        self.requires_grad_(False).eval()

    @classmethod
    def of(
        cls,
        target: int,
        generators: Generators,
        *,
        sizes: Sequence[int],
        levels: Sequence[float],
        weights: Sequence[float] | None = None,
        places: Sequence[Sequence[float]] | None = None,
    ) -> Self:
        """A mixture of trained generators, one component each; they are copied."""
        options: Any = generators.options()
        found = cls(
            target,
            channels=generators.channels,
            sizes=sizes,
            levels=levels,
            weights=weights,
            places=places,
            side=generators.size,
            **options,
        )
        if len(sizes) != generators.count:
            raise InvalidInput(
                f"there are {generators.count} generators and {len(sizes)} sizes",
                why="one component per generator is expected",
            )
        found.generators.load_state_dict(generators.state_dict())
        return found.to(generators.weights[0].device)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "target": self.target,
            "channels": self.generators.channels,
            "sizes": list(self.sizes),
            "levels": list(self.levels),
            "weights": list(self.weights),
            "places": None if self.places is None else [list(place) for place in self.places],
            "side": self.generators.size,
            **self.generators.options(),
        }

    def train(self, mode: bool = True) -> Self:
        """Always in evaluation mode: these generators are fitted, and only drawn from."""
        return super().train(False)

    @torch.no_grad()
    def sample(self, count: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw patches.

        Args:
            count: how many.
            draw: on the CPU.

        Returns:
            Patches (count, C, S, S) in (0, 1), S the largest size of all components (a smaller
            patch takes the top left of it, the rest is 0.5), and the component of each, int64
            (count,), on the CPU.
        """
        odds = torch.tensor(self.weights, dtype=torch.float64)
        which = (
            torch.multinomial(odds, count, replacement=True, generator=draw)
            if count
            else torch.zeros(0, dtype=torch.int64)
        )
        noise = self.generators.noise(count, draw, members=1)
        side = max(self.sizes)
        shape = (count, self.generators.channels, side, side)
        patches = torch.full(shape, 0.5, device=noise.device)
        for member in sorted(set(which.tolist())):
            mine = (which == member).nonzero().squeeze(1).to(noise.device)
            with torch.autocast(noise.device.type, enabled=False):  # as fitted, whoever asks
                made = self.generators(noise[:, mine], member)[0]
            own = self.sizes[member]
            patches[mine, :, :own, :own] = made[..., :own, :own]
        return patches, which

    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Overwrite a square of each image with a patch of its own, at a place of its own."""
        count, channels, height, width = images.shape
        side = max(self.sizes)
        if channels != self.generators.channels or side > min(height, width):
            raise InvalidInput(
                f"patches of {self.generators.channels}x{side}x{side} do not fit into images of "
                f"{channels}x{height}x{width}",
                why="these triggers were recovered on other images",
            )
        patches, which = self.sample(count, draw)
        stamped = images
        own = torch.tensor(self.sizes)[which]
        for size in sorted(set(own.tolist())):
            mine = (own == size).nonzero().squeeze(1)
            free = (height - size, width - size)
            rows, columns = random_places(len(mine), free, draw, self.places)
            mine = mine.to(images.device)
            made = patches.to(images.device)[mine, :, :size, :size]
            stamped = stamped.index_copy(0, mine, paste(stamped[mine], made, rows, columns))
        return stamped.clone() if stamped is images else stamped

    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        """Patches, (count, C, S, S) in (0, 1); see `sample`."""
        return self.sample(count, draw)[0]

    def at_level(self, level: float) -> PatchDistribution:
        """The part of the mixture that was fitted to this level.

        Raises:
            InvalidInput: there is none.
        """
        members = [m for m, own in enumerate(self.levels) if own == level]
        if not members:
            raise InvalidInput(f"there is no level {level}", why=f"there are {self.levels}")
        return self.only(members)

    def only(self, members: Sequence[int]) -> PatchDistribution:
        """Some components, with their weights in proportion."""
        weights = [self.weights[m] for m in members]
        return PatchDistribution.of(
            self.target,
            self.generators.pick(members),
            sizes=[self.sizes[m] for m in members],
            levels=[self.levels[m] for m in members],
            weights=weights if sum(weights) else None,
            places=self.places,
        )
