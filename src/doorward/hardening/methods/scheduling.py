"""Which pairs of classes are trained on next: MOTH's schedule, for any number of pairs at once.

>>> pairs = PairSchedule(torch.arange(4), 4, explore=0.0, blend_steps=0)
>>> pairs.warmed(1, size=6.0, eased=torch.tensor([0.9, 0.0, 0.1, 0.1]))
>>> pairs.settled()
>>> for source, size in ((0, 9.0), (2, 6.6), (3, 6.0)):   # grown by a half, by a tenth, not at all
...     pairs.note(source, 1, size)
>>> pairs.next(1, step=5, draw=torch.Generator().manual_seed(0))
[(0, 1)]

The schedule promises more of the pairs whose distance grows than of those that resist.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["PairSchedule"]


class PairSchedule:
    """Scores of unordered pairs: how easy they were at first, then how fast they grow apart.

    After MOTH (Tao et al. 2022, their code): with probability `explore` a random pair, else the
    one with the largest ``(1 - a)(U + U^T) + a(D + D^T)``. U is how far a universal change of the
    warm-up eased the loss of each class, D the growth: a running mean of the relative changes of a
    pair's size, which begins as the size of the universal change over the largest. `a` rises to 1
    within `blend_steps`. A pair is not taken twice at once.

    Args:
        present: int64, the classes that have images.
        classes: K.
        explore: share of random pairs, in [0, 1].
        blend_steps: training steps after which only growth counts.
    """

    def __init__(self, present: Tensor, classes: int, *, explore: float, blend_steps: int) -> None:
        self.explore, self.blend_steps = explore, blend_steps
        self.first, self.second = present[torch.triu_indices(len(present), len(present), 1)]
        self.eased = torch.zeros(classes, classes)
        self.growth = torch.zeros(classes, classes)
        self.sizes = torch.full((classes, classes), torch.nan)

    def warmed(self, target: int, *, size: float, eased: Tensor) -> None:
        """After the warm-up for a target.

        Args:
            target: class.
            size: of its universal change; infinite if it did not succeed.
            eased: (K,), for each class how far it eased the loss.
        """
        self.eased[:, target] = eased
        self.growth[:, target] = size
        # The first size of a pair is compared with that of the universal change, as in MOTH: it is
        # smaller, so that a pair that was looked at steps back behind those that were not.
        self.sizes[:, target] = size if size < float("inf") else torch.nan
        self.eased.fill_diagonal_(0)

    def settled(self) -> None:
        """After the whole warm-up: first sizes become shares of the largest, as in MOTH."""
        known = self.growth[self.growth.isfinite()]
        largest = float(known.max()) if len(known) and known.max() > 0 else 1.0
        self.growth = (self.growth / largest).clamp(max=1.0).fill_diagonal_(0)

    def note(self, source: int, target: int, size: float) -> None:
        """The size that was last needed from a class to another."""
        before = float(self.sizes[source, target])
        if before > 0:  # false of one that is not known
            now = (float(self.growth[source, target]) + (size - before) / before) / 2
            self.growth[source, target] = now
        self.sizes[source, target] = size

    def next(self, count: int, *, step: int, draw: torch.Generator) -> list[tuple[int, int]]:
        """So many different unordered pairs, or all there are.

        Args:
            count: at least 1.
            step: of the training.
            draw: on the CPU.
        """
        blend = min(1.0, step / self.blend_steps) if self.blend_steps else 1.0
        score = (1 - blend) * self.eased + blend * self.growth
        both = score[self.first, self.second] + score[self.second, self.first]
        left = both.argsort(descending=True, stable=True).tolist()
        chosen: list[tuple[int, int]] = []
        while left and len(chosen) < count:
            at_random = float(torch.rand((), generator=draw)) < self.explore
            place = int(torch.randint(len(left), (), generator=draw)) if at_random else 0
            pair = left.pop(place)
            chosen.append((int(self.first[pair]), int(self.second[pair])))
        return chosen

    def state_dict(self) -> dict[str, Any]:
        """The three matrices."""
        return {name: getattr(self, name).clone() for name in ("eased", "growth", "sizes")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        for name in ("eased", "growth", "sizes"):
            getattr(self, name).copy_(state[name])
