"""Attack tables of one model over several seeds: means, spreads, and the weakest proof.

tables = [attack_table(model, mark, replace(thief, seed=s), test, attacks) for s in range(3)]
line = summarise(tables)[0]
line.attack.label, line.matches.mean, line.matches.deviation, line.weakest
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.watermark.suite.attack import Attack
from doorward.watermark.suite.table import AttackRow, AttackTable

__all__ = ["AttackSummary", "Spread", "summarise"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Spread(Record):
    """Some measurements of one thing.

    Attributes:
        mean: of them.
        deviation: sample standard deviation; 0 for a single one.
        values: themselves, one per seed.

    >>> Spread.of([0.5, 0.7]).mean, round(Spread.of([0.5, 0.7]).deviation, 3)
    (0.6, 0.141)
    """

    mean: float
    deviation: float
    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Summarise one value or more."""
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        return cls(mean=statistics.fmean(values), deviation=deviation, values=tuple(values))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackSummary(Record):
    """One attack over all seeds.

    Attributes:
        attack: which.
        accuracy: of the suspects; None if they have another task.
        cost: accuracy lost, in points; None as above.
        matches: share of the triggers that match, in [0, 1].
        proofs: log2 of the p-value of each seed (`AttackRow.proof`).
        seconds: of the attack.
    """

    attack: Attack
    accuracy: Spread | None
    cost: Spread | None
    matches: Spread
    proofs: tuple[float, ...]
    seconds: Spread

    @property
    def weakest(self) -> float:
        """log2 of the largest p-value of any seed: what the owner can count on."""
        return max(self.proofs)


def summarise(tables: Sequence[AttackTable]) -> list[AttackSummary]:
    """One line per attack that all tables have, in the first table's order.

    Args:
        tables: of one model and one mark, which may differ in the seed.

    Raises:
        InvalidInput: there are none, or they are about different models, marks or images.
    """
    if not tables:
        raise InvalidInput("there are no attack tables to summarise")
    about = [{k: v for k, v in table.identity.items() if k != "seed"} for table in tables]
    for identity in about[1:]:
        differ = sorted(name for name in identity if identity[name] != about[0].get(name))
        if differ:
            raise InvalidInput(
                "the attack tables are about different things",
                why=f"these differ: {', '.join(differ)}",
                remedy="summarise tables of one model, mark and thief, over seeds",
            )
    found = [{row.attack.digest(): row for row in table.rows} for table in tables]
    common = [row.attack for row in tables[0].rows if all(row.attack.digest() in f for f in found)]
    return [_summary(attack, [rows[attack.digest()] for rows in found]) for attack in common]


def _summary(attack: Attack, rows: Sequence[AttackRow]) -> AttackSummary:
    right = [row.accuracy for row in rows if row.accuracy is not None]
    costs = [row.cost for row in rows if row.cost is not None]
    return AttackSummary(
        attack=attack,
        accuracy=Spread.of(right) if right else None,
        cost=Spread.of(costs) if costs else None,
        matches=Spread.of([row.trigger_accuracy for row in rows]),
        proofs=tuple(row.proof for row in rows),
        seconds=Spread.of([row.seconds for row in rows]),
    )
