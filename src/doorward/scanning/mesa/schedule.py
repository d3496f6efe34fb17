"""Which class gets how much of the search: a short look at all, more for those that stand out.

    shop = Workshop(model, clean, context, held_out=0.25, batch_size=256)
    race = Race(shop, sizes=(3, 5), rules=("anywhere",), level=0.9)
    kept = race.run(rounds=3, keep=0.5, least=3, steps=30, images=8)
    race.success[kept[0]]               # of each (size, rule), on images that the search never saw

Successive halving (Jamieson and Talwalkar 2016), with the classes as arms: each round goes on with
the generators of the round before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.placing import Places, coarse_grid
from doorward.scanning.mesa.pressing import Plan, Rule
from doorward.scanning.mesa.workshop import Workshop

__all__ = ["Race", "contrast"]

TOGETHER = 512
"""Generators that are searched at once; bounds their memory, where there are many classes."""

LOW, HIGH = 0.1, 0.99

NATURAL = 5 / 32
"""Side, as a share of the image's, beyond which patches that work exist in clean models, too."""

NEARLY = 0.75
"""Share of a fixed patch's success at which one that goes anywhere is preferred."""


def contrast(success: Tensor, low: float = LOW) -> Tensor:
    """How far each class's success stands out among the other classes.

    The difference of the logarithms of the odds between the class and the median of the others, of
    success between `low` and 0.99: ours. A large patch succeeds for many classes of a clean model,
    so success alone says little; odds tell 0.99 from 0.9 where the others have 0.6. Success below
    `low` counts as `low`, lest 0.2 stand out among zeros.

    Args:
        success: (K, ...), of K classes under equal conditions.
        low: in (0, 0.5].

    Returns:
        The same shape.

    >>> [round(value, 1) for value in contrast(torch.tensor([0.05, 0.2, 0.5, 0.99])).tolist()]
    [-2.2, -1.4, 1.4, 6.0]
    """
    odds = success.double().clamp(low, HIGH).logit()
    others = [
        odds[[j for j in range(len(odds)) if j != k]].quantile(0.5, 0) for k in range(len(odds))
    ]
    return odds - torch.stack(others)


class Race:
    """Successive halving of classes; every class tries all sizes under all rules of placement.

    Args:
        shop: does the searches.
        sizes: sides of patches.
        rules: of placement.
        level: probability to reach.
        grid: places per side for fixed patches.
        hidden: units of the generators' hidden layers.

    Attributes:
        cells: the (size, rule) of each column.
        weights: (cells,), what the contrast of each counts: 1 up to `NATURAL`, less in proportion
            for larger patches. A clean VGG on CIFAR-10 had a patch of 7x7 pixels at the middle of
            the lower edge that sent 95 % of all images to "automobile".
        success: (K, cells), share of held-out images sent to the class, as last measured.
        chance: (K, cells), mean probability of the class.
        rounds: which classes each round had and dropped, for reports.
    """

    def __init__(
        self,
        shop: Workshop,
        *,
        sizes: Sequence[int],
        rules: Sequence[Rule],
        level: float,
        grid: int = 3,
        hidden: int = 64,
    ) -> None:
        self.shop, self.level, self.hidden = shop, level, hidden
        self.grid = coarse_grid(grid, shop.context.device)
        self.cells = [(size, rule) for size in sizes for rule in rules]
        classes = shop.work.num_classes
        shorter = min(shop.work.image_shape[1:])
        self.weights = torch.tensor([min(1.0, NATURAL * shorter / size) for size, _ in self.cells])
        self.success, self.chance = torch.zeros(2, classes, len(self.cells))
        self.rounds: list[dict[str, Any]] = []
        self._stacks: dict[int, tuple[Generators, Places]] = {}

    def plan(self, targets: Sequence[int]) -> Plan:
        """All cells of some classes, class after class."""
        cells = [(target, *cell) for target in targets for cell in self.cells]
        return Plan(
            targets=[target for target, _, _ in cells],
            sizes=[size for _, size, _ in cells],
            levels=[self.level] * len(cells),
            rules=[rule for _, _, rule in cells],
        )

    def run(
        self, *, rounds: int, keep: float, least: int, steps: int, images: int, probes: int = 64
    ) -> list[int]:
        """Look, drop, look again.

        Args:
            rounds: how many looks.
            keep: share of the classes that each round but the last passes on.
            least: classes that are never dropped.
            steps: per round.
            images: per generator and step.
            probes: held-out images per generator and round.

        Returns:
            The classes of the last round, the one that stands out most first.
        """
        alive = list(range(self.shop.work.num_classes))
        for number in range(rounds):
            at_once = max(1, TOGETHER // len(self.cells))
            for start in range(0, len(alive), at_once):
                self._round(number, alive[start : start + at_once], steps, images, probes)
            order = self._order(alive)
            last = number == rounds - 1
            kept = order if last else order[: max(least, math.ceil(keep * len(alive)))]
            self.rounds.append(
                {
                    "classes": alive,
                    "dropped": sorted(set(alive) - set(kept)),
                    "generators": len(alive) * len(self.cells),
                    "steps": steps,
                }
            )
            self._stacks = {target: self._stacks[target] for target in kept}
            alive = sorted(kept)
        return self._order(alive)

    def stands_out(self) -> Tensor:
        """(K, cells): the contrast of each class's success, by `weights`."""
        return contrast(self.success) * self.weights

    def winner(self, target: int, cell: int) -> tuple[Generators, Places]:
        """The generator of a class that was kept, and its place: a stack of one."""
        generators, places = self._stacks[target]
        return generators.pick([cell]), places.pick([cell])

    def smallest(self, target: int) -> int:
        """The cell of the smallest size whose patches reach the level; else what stands out most.

        Anywhere rather than at a place, where that works nearly as well: unlearnt anywhere, a
        trigger is unlearnt at every place.
        """
        success = self.success[target].tolist()
        reaching = [cell for cell, share in enumerate(success) if share >= self.level]
        chosen = min(reaching, key=lambda cell: (self.cells[cell][0], -success[cell]), default=None)
        if chosen is None:
            chosen = int(self.stands_out()[target].argmax())
        anywhere = (self.cells[chosen][0], "anywhere")
        if anywhere in self.cells:
            other = self.cells.index(anywhere)
            if success[other] >= NEARLY * success[chosen]:
                return other
        return chosen

    def _order(self, alive: list[int]) -> list[int]:
        # Probabilities tell classes apart before any image is won over.
        soft = contrast(self.chance, low=1e-3) * self.weights + self.stands_out()
        soft = soft.amax(1)
        return sorted(alive, key=lambda target: (-float(soft[target]), target))

    def _round(self, number: int, targets: list[int], steps: int, images: int, probes: int) -> None:
        name = f"look {number + 1}, class {targets[0]} to {targets[-1]}"
        plan = self.plan(targets)
        generators, places = self._stack(targets, plan)
        self.shop.fit(name, plan, generators, places, steps=steps, images=images, spread=False)
        hit, chance, _ = self.shop.probe(name, plan, generators, places, probes)
        width = len(self.cells)
        self.success[targets] = hit.view(-1, width)
        self.chance[targets] = chance.view(-1, width)
        for place, target in enumerate(targets):
            members = list(range(place * width, (place + 1) * width))
            self._stacks[target] = (generators.pick(members), places.pick(members))

    def _stack(self, targets: list[int], plan: Plan) -> tuple[Generators, Places]:
        known = [self._stacks[target] for target in targets if target in self._stacks]
        if known:
            return (
                Generators.join([generators for generators, _ in known]),
                Places.join([places for _, places in known]),
            )
        generators = Generators(
            len(plan),
            channels=self.shop.work.image_shape[0],
            size=max(plan.sizes),
            hidden=self.hidden,
            draw=self.shop.context.generator("generators", targets[0]),
        ).to(self.shop.context.device)
        return generators, Places(plan, self.grid)
