"""What ``doorward watermark verify`` says where several tests are corrected together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doorward.cli.common import answer, table

if TYPE_CHECKING:
    from doorward.watermark.verifying import Corrected, Examination

__all__ = ["answer_for_all"]


def answer_for_all(
    suspects: Sequence[str],
    found: Sequence[Examination],
    corrected: Sequence[Corrected],
    *,
    as_json: bool,
) -> None:
    """One row per suspect, with its p-value before and after the correction."""
    from doorward.watermark.verdict import in_words

    rows, documents = [], []
    for suspect, examined, entry in zip(suspects, found, corrected, strict=True):
        verdict = examined.verdict
        documents.append(
            {
                "suspect_given": suspect,
                **verdict.to_dict(),
                "warnings": list(verdict.warnings),
                "corrected": entry.to_dict(),
            }
        )
        words = ["-" if p is None else in_words(p) for p in (verdict.log2_p, entry.log2_p)]
        matches = "-" if verdict.matches is None else f"{verdict.matches} of {verdict.n}"
        rows.append([suspect, matches, *words, "VERIFIED" if entry.verified else "not verified"])
    proven = sum(entry.verified for entry in corrected)
    lines = [
        table(["suspect", "matches", "p", "corrected p", "verdict"], rows),
        f"Corrected for {corrected[0].tests} tests ({corrected[0].method}): "
        f"{proven} of {len(suspects)} suspects carry the mark.",
    ]
    lines += [
        f"WARNING ({s}): {w}"
        for s, e in zip(suspects, found, strict=True)
        for w in e.verdict.warnings
    ]
    answer(
        {"verified": proven > 0, "suspects": documents},
        as_json=as_json,
        lines=lines,
        yes=proven > 0,
    )
