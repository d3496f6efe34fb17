"""The section about attacks on a mark over several seeds: means, spreads, the weakest proof.

report.add(seeds_section([table.to_dict() for table in tables]))
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from doorward.errors import InvalidInput
from doorward.reporting.blocks import Block, Table, Text, Verdict
from doorward.reporting.numerals import percent, power_of_two
from doorward.reporting.plots import Dots
from doorward.reporting.report import Section
from doorward.reporting.watermark import proof_of

__all__ = ["seeds_section"]


def seeds_section(
    tables: Sequence[Mapping[str, Any]], *, log2_alpha: float = -30.0, most_cost: float = 2.0
) -> Section:
    """What attackers of several seeds achieved, attack by attack.

    Args:
        tables: of `AttackTable`, as dicts; attacks that not all of them have are left out.
        log2_alpha: the level, as log2, at which the mark counts as proven.
        most_cost: accuracy, in points, that an attacker is ready to lose.

    Raises:
        InvalidInput: there are no tables.
    """
    if not tables:
        raise InvalidInput("there are no attack tables to show")
    found = [{row["attack"]["label"]: row for row in table["rows"]} for table in tables]
    lines = {
        label: [rows[label] for rows in found]
        for label in found[0]
        if all(label in rows for rows in found)
    }
    beaten = [
        label
        for label, rows in lines.items()
        if any(
            proof_of(row) > log2_alpha and (row["cost"] is None or row["cost"] <= most_cost)
            for row in rows
        )
    ]
    blocks: list[Block] = [
        Text(
            f"The same model was attacked by {len(tables)} attackers, who differ in what they draw "
            "at random. The weakest proof of all of them is what the owner can count on."
        ),
        Verdict(
            f"Does the mark outlive every attack that costs at most {most_cost:g} points, for "
            "every attacker?",
            not beaten,
            detail=f"proven at {power_of_two(log2_alpha)} after each of them"
            if not beaten
            else f"not after: {', '.join(beaten)}",
        ),
        Table(
            ["Attack", "Accuracy", "Triggers that match", "Weakest p-value", "Proven", "Seconds"],
            [_line(label, rows, log2_alpha) for label, rows in lines.items()],
            f"Attacks on the mark, over {len(tables)} seeds",
            note="Mean ± sample standard deviation over the seeds.",
        ),
        Dots(
            {
                label: [100 * row["matches"] / row["n"] for row in rows]
                for label, rows in lines.items()
            },
            x="triggers that still match (%)",
            caption="The mark after each attack, a dot per seed",
        ),
    ]
    return Section("What does the mark withstand, seed by seed?", tuple(blocks))


def _line(label: str, rows: Sequence[Mapping[str, Any]], log2_alpha: float) -> list[object]:
    right = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    proofs = [proof_of(row) for row in rows]
    return [
        label,
        _spread(right) if right else "another task",
        _spread([row["matches"] / row["n"] for row in rows]),
        power_of_two(max(proofs)),
        f"{sum(proof <= log2_alpha for proof in proofs)} of {len(rows)}",
        f"{statistics.fmean(row['seconds'] for row in rows):.1f}",
    ]


def _spread(values: Sequence[float]) -> str:
    """A share, with its spread where there is one.

    >>> _spread([0.5]), _spread([0.5, 0.7])
    ('50.0 %', '60.0 % ± 14.1')
    """
    if len(values) == 1:
        return percent(values[0])
    return f"{percent(statistics.fmean(values))} ± {100 * statistics.stdev(values):.1f}"
