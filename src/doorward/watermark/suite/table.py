"""What attacks on a mark came to: one row per attack, and the table that is kept on disk.

table = AttackTable.from_dict(read_json("attacks.json"))
table.worst(most_cost=2.0).attack.label
"""

from __future__ import annotations

from typing import Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.watermark.suite.attack import Attack

__all__ = ["AttackRow", "AttackTable"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackRow(Record):
    """What one attack cost, and what it left of the mark.

    Attributes:
        attack: which, with its numbers.
        accuracy: of the suspect on the test images, in [0, 1]; None if it has another task.
        cost: accuracy lost, in points (hundredths); negative if the attack gained.
        matches: triggers that got the mark's label.
        n: triggers asked.
        p_value: of so many by chance; 0.0 below 5e-324.
        log2_p: its log2.
        interval: 95 % interval of the match rate.
        blended_log2_p: log2 of the p-value of asking through carriers (`ask_blended`); None
            without carriers.
        old_head: the answers came through the owner's old head (see `Struck`).
        seconds: of the attack.
        facts: what the attack reports of itself.
    """

    attack: Attack
    accuracy: float | None
    cost: float | None
    matches: int
    n: int
    p_value: float
    log2_p: float
    interval: tuple[float, float]
    blended_log2_p: float | None = None
    old_head: bool
    seconds: float
    facts: dict[str, Any]

    @property
    def trigger_accuracy(self) -> float:
        """Share of the triggers that match, in [0, 1]."""
        return self.matches / self.n

    @property
    def proof(self) -> float:
        """log2 of the p-value of the stronger of both ways to ask, doubled if there were two."""
        if self.blended_log2_p is None:
            return self.log2_p
        return min(0.0, 1 + min(self.log2_p, self.blended_log2_p))

    def survived(self, log2_alpha: float) -> bool:
        """Whether the mark is still proven at a level given as log2."""
        return self.proof <= log2_alpha


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackTable(Record):
    """The rows, first of them the untouched model (method ``"none"``).

    Attributes:
        identity: digests of weights, mark and data, and the seed: what the rows are about.
        rows: one per attack, in the order given.
        environment: versions and hardware.
        diverged: labels of attacks whose training blew up, and why: such a thief has no model.
    """

    identity: dict[str, Any]
    rows: list[AttackRow]
    environment: dict[str, Any]
    diverged: dict[str, str] = Field(default_factory=dict)

    def worst(self, most_cost: float) -> AttackRow:
        """The row with the weakest proof among attacks that cost at most so many points.

        Attacks that leave a model for another task count too: the copy is worth something. So
        does the untouched model, which costs nothing.

        Raises:
            InvalidInput: `most_cost` is negative, so that not even the untouched model counts.
        """
        if not most_cost >= 0:
            raise InvalidInput(f"a cost of {most_cost} points is negative")
        cheap = [row for row in self.rows if row.cost is None or row.cost <= most_cost]
        return max(cheap, key=lambda row: row.proof)
