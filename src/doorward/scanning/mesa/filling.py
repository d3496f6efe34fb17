"""From a generator that works to the whole staircase: all levels, restarts, weights.

    recovered = fill(shop, race, {3: 0}, levels=[0.5, 0.9], restarts=2, steps=100, images=32,
                     probes=128, even=0.3)
    distribution, details = recovered[3]

Every level begins once at what the race has found, so that this is part of the result, and once
per further restart afresh, because a set of triggers may have several parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from doorward.scanning.mesa.distribution import PatchDistribution
from doorward.scanning.mesa.entropy import knn_entropy, mixture_weights
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.placing import Places
from doorward.scanning.mesa.pressing import Plan
from doorward.scanning.mesa.schedule import Race
from doorward.scanning.mesa.search import active
from doorward.scanning.mesa.workshop import Workshop

__all__ = ["fill"]

DRAWN = 256
"""Patches that an entropy is measured on."""

USABLE = 0.8
"""Generators with less than this share of the best one's success are left out of the mixture."""


def fill(
    shop: Workshop,
    race: Race,
    cells: Mapping[int, int],
    *,
    levels: Sequence[float],
    restarts: int,
    steps: int,
    images: int,
    probes: int,
    even: float,
) -> dict[int, tuple[PatchDistribution, dict[str, Any]]]:
    """Model the distribution of triggers of some classes, all of them in one search.

    Args:
        shop: does the search.
        race: whose winners it begins with.
        cells: class -> the race's cell (size and rule) to go on with.
        levels: of the staircase.
        restarts: generators per level.
        steps: of the search.
        images: stamped images per generator and step.
        probes: held-out stamped images that each generator's success is measured on.
        even: share of the mixture's weight that is spread evenly.

    Returns:
        For each class its distribution, and JSON-ready figures of all generators: those with too
        little success have the weight 0 and are not part of the distribution.
    """
    plan, generators, places = _begin(shop, race, cells, levels, restarts)
    staircase = shop.fit("fill", plan, generators, places, steps=steps, images=images, spread=True)
    hits, _, reached = shop.probe("fill", plan, generators, places, probes)
    with torch.no_grad():
        noise = generators.noise(DRAWN, shop.context.generator("entropy"))
        points = active(generators(noise), plan.sizes).flatten(2)
        entropies = knn_entropy(points, dimensions=staircase.pixels).tolist()
    figures = zip(
        plan.levels,
        hits.tolist(),
        reached.tolist(),
        entropies,
        staircase.multiplier.alpha.tolist(),
        strict=True,
    )
    names = ("level", "success", "reached", "entropy", "alpha")
    parts = [dict(zip(names, row, strict=True)) for row in figures]
    answer = {}
    for target in cells:
        members = [m for m, own in enumerate(plan.targets) if own == target]
        best = max(parts[m]["success"] for m in members)
        used = [m for m in members if parts[m]["success"] >= USABLE * best]
        mixed = mixture_weights(
            [entropies[m] for m in used], [plan.levels[m] for m in used], even=even
        )
        weights = dict.fromkeys(members, 0.0) | dict(zip(used, mixed, strict=True))
        where = places.best(used)
        found = PatchDistribution.of(
            target,
            generators.pick(used),
            sizes=[plan.sizes[m] for m in used],
            levels=[plan.levels[m] for m in used],
            weights=mixed,
            places=where,
        )
        answer[target] = (
            found,
            {
                "size": plan.sizes[members[0]],
                "placement": plan.rules[members[0]],
                "places": None if where is None else [list(place) for place in where],
                "pixel_values": int(staircase.pixels[members[0]]),
                "parts": [{**parts[m], "weight": weights[m]} for m in members],
            },
        )
    return answer


def _begin(
    shop: Workshop,
    race: Race,
    cells: Mapping[int, int],
    levels: Sequence[float],
    restarts: int,
) -> tuple[Plan, Generators, Places]:
    """One generator per class, level and restart."""
    plan, stacks, places = Plan([], [], [], []), [], []
    for target, cell in cells.items():
        size, rule = race.cells[cell]
        found, place = race.winner(target, cell)
        fresh = Generators(
            len(levels) * restarts,
            channels=found.channels,
            size=found.size,
            draw=shop.context.generator("restarts", target),
            **found.options(),
        ).to(shop.context.device)
        for number in range(fresh.count):
            stacks.append(fresh.pick([number]) if number % restarts else found)
            places.append(place)
            plan.append(target, size, levels[number // restarts], rule)
    return plan, Generators.join(stacks), Places.join(places)
