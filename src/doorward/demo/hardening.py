"""Chapter ten: how far apart the plain model's classes are, and pushing them apart.

::

    part = tell(story)      # needs story.shelf["clean"]; leaves hard.model in the folder
"""

from __future__ import annotations

import statistics
from typing import Any

from doorward.bundles import save_model
from doorward.data import ImageData
from doorward.demo.story import Part, Story
from doorward.hardening import (
    DistanceResult,
    Hardening,
    HardeningResult,
    Measuring,
    PairAttack,
    harden,
    hardening,
    measure_distances,
    measuring,
    success_on,
)
from doorward.hardening.measures import Measure
from doorward.metrics import accuracy
from doorward.reporting import Section, Text
from doorward.reporting.hardened import hardening_section, natural_section

__all__ = ["tell"]

KIND: Measure = "pixel"
BUDGET = 1.0
MAY_COST = 0.02
"""What is promised, on test images by which the budget was not held. Growth is not: so short a
hardening of so small a network may have to be undone."""
GAPS = (3,)
"""One pair from each class: the whole matrix would take longer than all of the chapter may."""


def tell(story: Story) -> Part:
    """Measure the plain model, harden it, measure again."""
    plain = story.shelf["clean"]
    judges, unseen = _parted(story)
    classes = story.test.num_classes
    options: dict[str, Any] = {
        "attack": _attack(story),
        "kind": KIND,
        "pairs": [(s, (s + gap) % classes) for s in range(classes) for gap in GAPS],
        "seed": story.seed,
        "device": story.device,
    }
    before, found = measure_distances(plain, unseen, **options)
    hard, result = harden(
        plain,
        story.train,
        _method(story),
        budget_accuracy=BUDGET,
        validation=judges,
        seed=story.seed,
        device=story.device,
    )
    after, _ = measure_distances(hard, unseen, **options)
    story.say(f"      {result.told()}")
    right = [accuracy(model, unseen) for model in (plain, hard)]
    apart = _means(before, after)
    save_model(
        hard,
        story.place / "hard.model",
        metrics={"accuracy": right[1]},
        evidence={"harden.json": result.to_dict()},
    )
    survive = success_on(hard, found, unseen, seed=story.seed, device=story.device).tolist()
    return Part(
        key="hardening",
        summary={
            "distance_before": apart[0],
            "distance_after": apart[1],
            "accuracy_before": right[0],
            "accuracy_after": right[1],
        },
        section=_section(story, result, before, after, found, survive),
        promises={
            "hardening costs at most two points of accuracy": right[0] - right[1] <= MAY_COST,
        },
    )


def _parted(story: Story) -> tuple[ImageData, ImageData]:
    """Images to hold the budget by, and others to measure on; a quick run has too few for both."""
    if story.quick:
        return story.test, story.test
    half = len(story.test) // 2
    judges, unseen = story.test.split(half, len(story.test) - half, seed=story.seed)
    return judges, unseen


def _attack(story: Story) -> Measuring:
    steps = 2 if story.quick else 25
    return measuring(KIND, starts=1, epochs=steps, images=10, batch_size=10)


def _method(story: Story) -> Hardening:
    """DECK-R with fewer steps and shorter searches than by default."""
    numbers: dict[str, Any] = {
        "steps": 48,
        "checks": 3,
        "batch_size": 64,
        "searching": {"images": 8},
        "first_steps": 8,
        "next_steps": 2,
        "warm_steps": 8,
        "pairs_at_once": 3,
        "blend_steps": 20,
    }
    if story.quick:
        numbers |= {"steps": 2, "checks": 1, "first_steps": 1, "next_steps": 1, "warm_steps": 1}
    return hardening("deck", **numbers)


def _means(before: DistanceResult, after: DistanceResult) -> list[float | None]:
    """Mean distances of the pairs that were reached both times; None if there are none."""
    both = [
        (old, new)
        for s, t in before.pairs
        if (old := before.distances[s][t]) is not None
        and (new := after.distances[s][t]) is not None
    ]
    return [statistics.fmean(column) for column in zip(*both, strict=True)] or [None, None]


def _section(
    story: Story,
    result: HardeningResult,
    before: DistanceResult,
    after: DistanceResult,
    found: PairAttack,
    survive: list[float],
) -> Section:
    shown = hardening_section(result, [(before, after)])
    natural = natural_section(before, found, story.test, survive)
    return Section(
        "Can one digit be turned into another?",
        (
            Text(
                "Nobody planted a backdoor in the plain model. Still there are small changes of "
                "the whole image, the same for all images of a digit, that make it read another. "
                "The smaller the change, the closer the two classes. Hardening (DECK-R) trains "
                "the model on such changes under the true labels, as long as it costs less than "
                f"{BUDGET:g} point of accuracy. (Searches are shortened, and only some pairs are "
                "measured.)"
            ),
            *shown.blocks,
            Text("**What the plain model's smallest changes do:**"),
            *natural.blocks,
        ),
        summary=shown.summary,
    )
