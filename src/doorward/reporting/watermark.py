"""Sections about watermarks, made from the JSON of their results.

report.add(attack_section(table.to_dict()))
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from doorward.reporting.blocks import Block, Note, Table, Text, Verdict
from doorward.reporting.numerals import percent, power_of_two
from doorward.reporting.plots import Curve, Dots
from doorward.reporting.report import Section

__all__ = ["attack_section", "proof_of"]

_TUNED = {("last", False): "FTLL", ("all", False): "FTAL", ("last", True): "RTLL",
          ("all", True): "RTAL"}  # fmt: skip


def attack_section(
    table: Mapping[str, Any], *, log2_alpha: float = -30.0, most_cost: float = 2.0
) -> Section:
    """What an attacker achieved against a mark, as a verdict, a table and two charts.

    Args:
        table: an `AttackTable` as a dict. Its untouched model counts as an attack that costs
            nothing: where that one is not proven, nothing is.
        log2_alpha: the level, as log2, at which the mark counts as proven; 2^-30 is about 1e-9.
        most_cost: accuracy, in points, that an attacker is ready to lose.
    """
    rows: Sequence[Mapping[str, Any]] = table["rows"]
    attacked = [row for row in rows if row["attack"]["method"] != "none"]
    beaten = [
        row
        for row in rows
        if proof_of(row) > log2_alpha and (row["cost"] is None or row["cost"] <= most_cost)
    ]
    names = ", ".join(row["attack"]["label"] for row in beaten)
    blocks: list[Block] = [
        Text(
            "A copy of the marked model was attacked in each of these ways, by somebody who knows "
            "how the marking works but not the key. What counts is whether the owner can still "
            "prove the mark on what is left, and what the attack cost the attacker in accuracy."
        ),
        Verdict(
            f"Does the mark outlive every attack that costs at most {most_cost:g} points?",
            not beaten,
            detail=f"proven at {power_of_two(log2_alpha)} after each of them"
            if not beaten
            else f"not after: {names}",
        ),
        _table(rows, log2_alpha),
        *_rates(attacked),
        Dots(
            {row["attack"]["label"]: [100 * row["matches"] / row["n"]] for row in rows},
            x="triggers that still match (%)",
            caption="The mark after each attack",
        ),
    ]
    if any(row["old_head"] for row in rows):
        blocks.append(
            Note(
                "Where an attack draws a new last layer, the answers were asked through the "
                "owner's old one, as Adi et al. do. That needs the suspect's weights, not only "
                "its answers."
            )
        )
    return Section("What does the mark withstand?", tuple(blocks))


def _table(rows: Sequence[Mapping[str, Any]], log2_alpha: float) -> Table:
    shown = [
        [
            row["attack"]["label"],
            "another task" if row["accuracy"] is None else percent(row["accuracy"]),
            "" if row["cost"] is None else f"{row['cost']:+.1f}",
            f"{row['matches']} of {row['n']}",
            f"{2 ** proof_of(row):.2f}" if proof_of(row) > -6 else power_of_two(proof_of(row)),
            proof_of(row) <= log2_alpha,
            f"{row['seconds']:.1f}",
        ]
        for row in rows
    ]
    return Table(
        ["Attack", "Accuracy", "Cost (points)", "Matches", "p-value", "Proven", "Seconds"],
        shown,
        "Attacks on the mark",
    )


def proof_of(row: Mapping[str, Any]) -> float:
    """log2 of the p-value of the stronger way to ask, doubled where both were tried."""
    alone, through = row["log2_p"], row.get("blended_log2_p")
    return float(alone if through is None else min(0.0, 1 + min(alone, through)))


def _rates(rows: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Matches after fine-tuning over the learning rate, if there are rates to compare."""
    lines: dict[str, dict[float, float]] = defaultdict(dict)
    for row in rows:
        attack = row["attack"]
        numbers = attack["parameters"]
        if attack["method"] != "fine-tuning" or attack["share"] < 1 or "lr" not in numbers:
            continue
        if numbers.get("schedule", "constant") != "constant":
            continue
        kind = _TUNED[numbers.get("layers", "all"), numbers.get("reinit_head", False)]
        lines[kind][numbers["lr"]] = 100 * row["matches"] / row["n"]
    if max((len(points) for points in lines.values()), default=0) < 3:
        return []
    from math import log10

    series = {
        kind: ([log10(rate) for rate in sorted(points)], [points[r] for r in sorted(points)])
        for kind, points in lines.items()
    }
    return [
        Curve(
            series,
            x="log10 of the learning rate",
            y="triggers that match (%)",
            caption="What fine-tuning leaves, by its learning rate (large ones cost accuracy, too)",
        )
    ]
