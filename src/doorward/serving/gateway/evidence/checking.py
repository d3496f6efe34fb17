"""Whether the log is what the gateway wrote: every row, their order, and the end.

>>> EvidenceCheck(rows=2, head="ab" * 32, problem=None).intact
True
"""

from __future__ import annotations

from collections.abc import Iterable

from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.serving.gateway.evidence.rows import GENESIS, HASH_BYTES, Row

__all__ = ["EvidenceCheck", "follow"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EvidenceCheck(Record):
    """What a check of the log found.

    Args:
        rows: how many rows hold.
        head: hex digest of the last of them. Publish it with a time stamp from time to time: then
            nobody, the holder of the secret included, can rewrite what was before.
        problem: the first thing that is wrong; None if nothing is.
    """

    rows: int
    head: str
    problem: str | None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return self.problem is None


def follow(
    rows: Iterable[tuple[Row, bytes]], anchor: tuple[int, str] | None = None
) -> EvidenceCheck:
    """Follow the chain from its beginning.

    Args:
        rows: with the digest that each was stored with, in order of their numbers.
        anchor: number and hex digest of a row, published earlier.
    """
    head, count = GENESIS, 0

    def result(problem: str | None) -> EvidenceCheck:
        return EvidenceCheck(rows=count, head=head.hex(), problem=problem)

    for row, stored in rows:
        if row.number != count + 1:
            return result(f"after row {count} comes row {row.number}")
        if row.digest(head) != stored:
            return result(f"row {row.number} was changed")
        if row.kind == "answer" and not (
            len(row.queries) == len(row.answers) == row.count * HASH_BYTES
        ):
            return result(f"row {row.number} does not hold {row.count} answers")
        head, count = stored, row.number
        if anchor is not None and anchor[0] == count and anchor[1] != head.hex():
            return result(f"row {count} is not the one that was published")
    if anchor is not None and anchor[0] > count:
        return result(f"row {anchor[0]}, which was published, is missing")
    return result(None)
