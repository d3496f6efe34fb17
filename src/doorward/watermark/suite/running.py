"""The attack table: every attack on one marked model, with accuracy, matches and p-value.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.training import Recipe
>>> from doorward.watermark.key import WatermarkKey
>>> digits = load("digits").resized(16).sample(60, seed=0)
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> thief = Thief(data=digits, recipe=Recipe(epochs=1, batch_size=30))
>>> table = attack_table(model, key, thief, digits, [Attack(method="quantisation")])
>>> [row.attack.method for row in table.rows], table.rows[0].n
(['none', 'quantisation'], 20)

A table that is written to a file is taken up where it was interrupted.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import BadFile, InvalidInput
from doorward.files import canonical_json, read_json, write_json
from doorward.metrics import accuracy, binomial_tail, binomial_tail_log2, clopper_pearson
from doorward.records import STRICT, Record, environment
from doorward.watermark.blended import ask_blended
from doorward.watermark.suite.attack import Attack, Struck, Thief, check_all, strike
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verdict import CONFIDENCE
from doorward.watermark.verification import count_matches

__all__ = ["AttackRow", "AttackTable", "attack_table"]


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
    """

    identity: dict[str, Any]
    rows: list[AttackRow]
    environment: dict[str, Any]

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


def attack_table(
    model: nn.Module,
    mark: TriggerSet,
    thief: Thief,
    validation: ImageData,
    attacks: Sequence[Attack],
    *,
    carriers: ImageData | None = None,
    path: str | os.PathLike[str] | None = None,
    on_row: Callable[[AttackRow], None] | None = None,
) -> AttackTable:
    """Attack a marked model in every given way, and measure what is left of the mark.

    Args:
        model: the marked model; it is not changed.
        mark: its key, or any other `TriggerSet`.
        thief: what the attacker has. Its images should not be `validation`.
        validation: test images of the task.
        attacks: for example `standard_attacks`.
        carriers: images of the task to ask about the triggers through, too (`ask_blended`), 16 or
            more; None asks about the triggers alone.
        path: JSON file to write after each row; rows that it holds already are not done again.
        on_row: called with each new row.

    Raises:
        UnknownName: an attack that does not exist; said before the first one begins.
        InvalidInput: images or an attack's parameters do not fit, transfer has no other task, or
            the file at `path` is about another model, mark, thief or test set; all said before
            the first attack begins.
        BadFile: the file at `path` is no such table.
    """
    check_all(mark, thief, validation, carriers, attacks)
    identity = {
        "model": _weights_digest(model),
        "mark": mark.commitment(),
        "data": thief.data.digest(),
        "pool": thief.pool.digest() if thief.pool else None,
        "other": thief.other.digest() if thief.other else None,
        "recipe": thief.recipe.digest(),
        "validation": validation.digest(),
        "carriers": carriers.digest() if carriers else None,
        "seed": thief.seed,
    }
    done = _read(path, identity)
    rows: list[AttackRow] = []
    before = accuracy(model, validation)
    for attack in [_NONE, *attacks]:
        row = done.get(attack.digest())
        if row is None:
            begun = perf_counter()
            struck = Struck(model, model) if attack is _NONE else strike(model, mark, attack, thief)
            seconds = perf_counter() - begun
            row = _row(attack, struck, mark, validation, carriers, before, seconds)
            if on_row is not None:
                on_row(row)
        rows.append(row)
        table = AttackTable(identity=identity, rows=rows, environment=environment())
        if path is not None:
            # Rows of the file that this call does not ask for stay in it.
            others = [old for old in done.values() if old not in rows]
            kept = AttackTable(identity=identity, rows=[*rows, *others], environment=environment())
            write_json(Path(path), kept.to_dict())
    return table


_NONE = Attack(method="none", label="no attack")


def _row(
    attack: Attack,
    struck: Struck,
    mark: TriggerSet,
    validation: ImageData,
    carriers: ImageData | None,
    before: float,
    seconds: float,
) -> AttackRow:
    facts = struck.facts or {}
    other_task = "task_accuracy" in facts
    after = None if other_task else accuracy(struck.suspect, validation)
    matches = count_matches(mark, struck.asked)
    chance = 1 / mark.classes
    return AttackRow(
        attack=attack,
        accuracy=after,
        cost=None if after is None else 100 * (before - after),
        matches=matches,
        n=mark.n,
        p_value=binomial_tail(matches, mark.n, chance),
        log2_p=binomial_tail_log2(matches, mark.n, chance),
        interval=clopper_pearson(matches, mark.n, CONFIDENCE),
        blended_log2_p=None if carriers is None else _blended(mark, struck.asked, carriers),
        old_head=struck.old_head,
        seconds=seconds,
        facts=facts,
    )


def _blended(mark: TriggerSet, asked: nn.Module, carriers: ImageData) -> float:
    return ask_blended(mark, asked, carriers).log2_p


def _read(path: str | os.PathLike[str] | None, identity: dict[str, Any]) -> dict[str, AttackRow]:
    if path is None or not Path(path).exists():
        return {}
    content = read_json(Path(path))
    if not isinstance(content, dict):
        raise BadFile(
            f"{path} is not an attack table", remedy="give another file, or delete it to start anew"
        )
    table = AttackTable.from_dict(content)
    if table.identity != identity:
        differ = sorted(k for k in identity if table.identity.get(k) != identity[k])
        raise InvalidInput(
            f"{path} is a table about something else",
            why=f"these differ: {', '.join(differ)}",
            remedy="give another file, or delete it to start anew",
        )
    return {row.attack.digest(): row for row in table.rows}


def _weights_digest(model: nn.Module) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        facts = canonical_json([name, str(tensor.dtype), list(tensor.shape)])
        # As bytes: numpy has no bfloat16.
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        total.update(facts + raw.numpy().tobytes())
    return total.hexdigest()
