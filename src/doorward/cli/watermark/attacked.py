"""What ``doorward watermark attack`` opens, says and writes.

::

    mark = open_mark(Path("mark.key"), phrase)         # or the paper's marking key
    lines = attack_lines(tables, log2_alpha=-30, most_cost=2)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doorward.cli.common import note, table

if TYPE_CHECKING:
    from doorward.watermark import TriggerSet
    from doorward.watermark.suite import AttackTable, Spread

__all__ = ["attack_lines", "open_mark", "several", "write_report"]


def open_mark(path: Path, phrase: str) -> TriggerSet:
    """A sealed watermark key, or a marking key of the paper's scheme."""
    from doorward.bundles.documents import read_object
    from doorward.errors import BadFile
    from doorward.watermark import WatermarkKey
    from doorward.watermark.adi import PaperKey
    from doorward.watermark.adi.key import PURPOSE

    try:
        purpose = read_object(path).get("purpose")
    except BadFile:
        purpose = None  # opening it says what is wrong
    if purpose != PURPOSE:
        return WatermarkKey.open(path, phrase)
    key = PaperKey.open(path, phrase)
    if key.facts.law != "uniform":
        note(
            "The key's labels were given, not drawn: p-values here are those of drawn labels. "
            "`doorward watermark paper verify` takes the exact test."
        )
    return key


def several(tables: Sequence[AttackTable]) -> dict[str, Any]:
    """The JSON of the tables of several seeds."""
    from doorward.watermark.suite import summarise

    return {
        "seeds": [table.identity["seed"] for table in tables],
        "rows": [{**line.to_dict(), "weakest": line.weakest} for line in summarise(tables)],
        "diverged": {k: why for table in tables for k, why in table.diverged.items()},
        "environment": tables[0].environment,
    }


def attack_lines(
    tables: Sequence[AttackTable], *, log2_alpha: float, most_cost: float
) -> list[str]:
    """The table and the verdict, for the terminal."""
    from doorward.watermark.suite import summarise

    lines = summarise(tables)
    rows = []
    for line in lines:
        proven = sum(proof <= log2_alpha for proof in line.proofs)
        rows.append(
            [
                line.attack.label,
                "-" if line.accuracy is None else _spread(line.accuracy),
                _spread(line.matches),
                f"2^{line.weakest:.1f}",
                ("yes" if proven else "no") if len(tables) == 1 else f"{proven} of {len(tables)}",
                f"{line.seconds.mean:.0f} s",
            ]
        )
    worst = max((done.worst(most_cost) for done in tables), key=lambda row: row.proof)
    weakest = max(done.rows[0].proof for done in tables)
    verdict = f"The mark does not survive {worst.attack.label} (2^{worst.proof:.1f})."
    if worst.survived(log2_alpha):
        verdict = (
            f"The mark survives each of these attacks that costs at most {most_cost:g} points."
        )
    elif weakest > log2_alpha:
        verdict = f"The mark is not proven even without an attack (2^{weakest:.1f})."
    p = "p-value" if len(tables) == 1 else "weakest p"
    failed = sorted({label for done in tables for label in done.diverged})
    wasted = [f"Diverged, so that no model was left: {', '.join(failed)}."] if failed else []
    return [table(["Attack", "Accuracy", "Matches", p, "Proven", "Time"], rows), *wasted, verdict]


def write_report(
    path: Path,
    tables: Sequence[AttackTable],
    *,
    subject: str,
    log2_alpha: float,
    most_cost: float,
) -> None:
    """One page: the first seed's table with its charts, and all seeds together."""
    from doorward.reporting import Report, environment_table
    from doorward.reporting.watermark import attack_section
    from doorward.reporting.watermark_seeds import seeds_section

    page = Report("A mark under attack", subject)
    content = [table.to_dict() for table in tables]
    if len(tables) > 1:
        page.add(seeds_section(content, log2_alpha=log2_alpha, most_cost=most_cost))
    page.add(attack_section(content[0], log2_alpha=log2_alpha, most_cost=most_cost))
    page.section("Environment", environment_table(tables[0].environment))
    page.write(path)


def _spread(found: Spread) -> str:
    if len(found.values) == 1:
        return f"{found.mean:.2%}"
    return f"{100 * found.mean:.1f} ± {100 * found.deviation:.1f} %"
