"""The sections about a hardening: distances before and after, natural backdoors, what it cost.

hardened, result = harden(model, clean)
report.add(hardening_section(result, [(before, after)]))
report.add(natural_section(before, found, clean, success_on(hardened, found, clean).tolist()))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Note, Number, Numbers, Picture, Table, Text, Verdict
from doorward.reporting.hardening import MEANING, close_pairs, heat_map
from doorward.reporting.numerals import format_value, percent
from doorward.reporting.report import Section
from doorward.reporting.scanning import class_name

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.hardening import DistanceResult, HardeningResult, PairAttack

__all__ = ["hardening_section", "natural_section"]

_HALF = 420  # pixels of one of two heat maps
_CLOSEST = 8


def hardening_section(
    result: HardeningResult,
    distances: Sequence[tuple[DistanceResult, DistanceResult]] = (),
    *,
    title: str = "Are the classes farther apart, and what did it cost?",
) -> Section:
    """What a hardening did, for people.

    Args:
        result: of `doorward.hardening.harden`.
        distances: before and after, of each kind that was measured.
        title: of the section.
    """
    lost = 100 * (result.accuracy_before - result.accuracy_after)
    blocks: list[Block] = [
        Verdict(
            "Was anything kept within the budget?",
            result.kept_steps > 0,
            detail=f"{lost:.2f} points of accuracy lost, {result.budget_accuracy:g} allowed",
        ),
        Numbers(
            Number("Accuracy before", percent(result.accuracy_before)),
            Number(
                "Accuracy after",
                percent(result.accuracy_after),
                f"on {result.held_out} held-out images",
            ),
            *_distance_numbers(distances),
            Number("Seconds", f"{result.seconds:.0f}", f"{result.peak_memory_mib:.0f} MiB"),
        ),
    ]
    for before, after in distances:
        blocks += _maps(before, after)
    blocks.append(_checks(result))
    if distances:
        blocks.append(
            Note(
                "Distances are upper bounds, by one fixed attack that is not the one trained with, "
                "on images that were not trained on. A pair that is out of reach after hardening "
                "takes no part in the mean, which is then too small."
            )
        )
    return Section(title, tuple(blocks), summary=result.told())


def natural_section(
    before: DistanceResult,
    found: PairAttack,
    clean: ImageData,
    survive: Sequence[float],
    *,
    title: str = "Natural backdoors of the model before",
) -> Section:
    """The closest pairs of the original, with pictures, and what their changes do afterwards.

    Args:
        before: distances in the original.
        found: the changes behind them.
        clean: images to show changed.
        survive: for each row of `found`, its success on the hardened model.
        title: of the section.
    """
    rows = {pair: row for row, pair in enumerate(found.aims.pairs)}
    closest = before.closest(_CLOSEST)
    blocks: list[Block] = [
        Text(
            "Nobody planted these. Each is one change for all images of a class, found without a "
            "backdoor in the model: where it is small, an attacker needs no poisoned data."
        )
    ]
    picture = close_pairs(before, found, clean)
    if picture is not None:
        blocks.append(
            Picture.of(
                picture,
                "Images of the closest pairs, the same images changed, and the differences",
                "The closest pairs before hardening: images, the same images changed, and the "
                "differences, magnified",
            )
        )
    blocks.append(
        Table(
            ["Pair", f"Distance ({before.kind})", "Success before", "The same change after"],
            [
                [
                    f"{class_name(before.classes, close.source)} to "
                    f"{class_name(before.classes, close.target)}".replace("class ", ""),
                    format_value(close.distance, digits=3),
                    percent(close.success),
                    percent(survive[rows[close.source, close.target]]),
                ]
                for close in closest
            ],
            f"The {len(closest)} closest pairs",
            note="Success: share of images not used in the search that are led to the other class. "
            "That the same change works no more does not mean that no other does: see the "
            "distances.",
        )
    )
    return Section(title, tuple(blocks), summary=_first(before))


def _distance_numbers(pairs: Sequence[tuple[DistanceResult, DistanceResult]]) -> list[Number]:
    from doorward.hardening import enlargement

    numbers = []
    for before, after in pairs:
        grown = enlargement(before, after)
        mean = grown.relative.mean
        detail = f"{_short(before)} to {_short(after)}" + (
            f", {grown.escaped} pairs went out of reach" if grown.escaped else ""
        )
        shown = "-" if mean is None else f"{100 * mean:+.0f} %"
        numbers.append(Number(f"Distance ({before.kind})", shown, detail))
    return numbers


def _maps(before: DistanceResult, after: DistanceResult) -> list[Block]:
    known = [d for result in (before, after) for row in result.distances for d in row if d]
    scale = (min(known), max(known)) if known else None
    return [
        Picture.of(
            heat_map(result, scale=scale),
            f"Matrix of the {result.kind} distances {when} hardening, mean {_short(result)}",
            f"{when.capitalize()}: from each class (row) to each other: {MEANING[result.kind]}. "
            "Both maps have the same colours; a dash is a pair out of reach.",
            pixelated=False,
            width=_HALF,
        )
        for result, when in ((before, "before"), (after, "after"))
    ]


def _checks(result: HardeningResult) -> Table:
    rows = [
        [
            f"{check.steps}",
            "diverged" if check.accuracy is None else percent(check.accuracy),
            None if check.success is None else percent(check.success),
            "yes" if check.kept else "no, undone",
            format_value(check.lr, digits=2),
            f"{check.seconds:.1f}",
        ]
        for check in result.checks
    ]
    return Table(
        ["Steps", "Accuracy", "Led astray", "Kept", "Rate", "Seconds"],
        rows,
        f"The training by {result.method}, part by part",
        note="Led astray: share of the searched images that the changes of that part led to their "
        "target, before the model learnt of them.",
    )


def _first(before: DistanceResult) -> str:
    closest = before.closest(1)
    if not closest:
        return "The measuring attack led no class of the original to another."
    pair = closest[0]
    return (
        f"Before hardening, {class_name(before.classes, pair.source)} became "
        f"{class_name(before.classes, pair.target)} by a change of "
        f"{format_value(pair.distance, digits=3)} ({MEANING[before.kind]})."
    )


def _short(result: DistanceResult) -> str:
    return "-" if result.mean.mean is None else format_value(result.mean.mean, digits=3)
