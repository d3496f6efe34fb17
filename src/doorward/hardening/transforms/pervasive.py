"""The general pervasive change: all families in one module, for many pairs at once.

>>> change = Pervasive.for_pairs([(0, 1), (1, 0)], (3, 32, 32), seed=0)
>>> change(torch.rand(5, 3, 32, 32)).shape
torch.Size([2, 5, 3, 32, 32])
>>> still = Pervasive(2, (3, 32, 32))                # zero parameters: no change at all
>>> x = torch.rand(5, 3, 32, 32)
>>> bool((still(x) == x).all())
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self, cast

import torch
from torch import Tensor, nn

from doorward.hardening.transforms.base import Change
from doorward.hardening.transforms.latent import Coder
from doorward.hardening.transforms.space import FAMILIES, Part, Space
from doorward.randomness import generator

__all__ = ["Pervasive"]


class Pervasive(Change):
    """The parts of a `Space`, one after another, clipped to [0, 1] at the end.

    Our reconstruction of the attack of DECK (Tao et al. 2022, "an encoder-decoder enhanced with a
    special transformation layer", of which no more is published): a layer on latent statistics
    from Feature Space Attack by an author of DECK (Xu et al. 2021), a layer of 3x3 kernels and
    biases from BEAGLE by the same group (Cheng et al. 2023), and an input-conditioned network.
    Colour, flow and low-frequency parts are ours, as are the bounds, the residual form that leaves
    images alone at zero parameters, and the rows.

    Args:
        rows: how many changes.
        image_shape: (C, H, W).
        space: families and bounds.
        coder: for the latent family (see `train_coder`); shared by all rows and not trained here.

    Shape:
        (B, C, H, W) or (R, B, C, H, W) -> (R, B, C, H, W).
    """

    def __init__(
        self,
        rows: int,
        image_shape: tuple[int, int, int],
        space: Space | None = None,
        *,
        coder: Coder | None = None,
    ) -> None:
        super().__init__(rows, image_shape)
        self.space, self._coder = space or Space(), (coder,)  # not a submodule of this one
        self.parts = nn.ModuleDict(
            {
                name: FAMILIES[name](rows, image_shape, self.space, coder)
                for name in self.space.ordered
            }
        )

    @classmethod
    def for_pairs(
        cls,
        pairs: Sequence[tuple[int, int]],
        image_shape: tuple[int, int, int],
        space: Space | None = None,
        *,
        coder: Coder | None = None,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> Self:
        """One row per ordered pair (source, target), a little away from no change.

        A pair begins the same whatever other pairs there are.
        """
        made = cls(len(pairs), image_shape, space, coder=coder)
        draws = [generator(seed, "start", source, target) for source, target in pairs]
        return made.start(draws).to(device)

    def changed(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """All parts, then the clip."""
        for part in self.parts.values():
            images = part(images, rows)
        return images.clamp(0, 1)

    def sizes(self, rows: Tensor | None = None) -> Tensor:
        """Sum over the parts of their mean deviations as shares of their bounds, (R,)."""
        parts = [cast(Part, part).sizes(rows) for part in self.parts.values()]
        return torch.stack(parts).sum(0)

    def like(self, rows: int) -> Self:
        """The same families for another number of rows."""
        (coder,) = self._coder
        return type(self)(rows, self.image_shape, self.space, coder=coder)
