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
from torch import nn

from doorward.data import ImageData
from doorward.errors import BadFile, InvalidInput, TrainingDiverged
from doorward.files import canonical_json, read_json, write_json
from doorward.metrics import accuracy, binomial_tail, binomial_tail_log2, clopper_pearson
from doorward.records import environment
from doorward.watermark.blended import ask_blended
from doorward.watermark.suite.attack import Attack, Struck, Thief, check_all, strike
from doorward.watermark.suite.table import AttackRow, AttackTable
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verdict import CONFIDENCE
from doorward.watermark.verification import count_matches

__all__ = ["attack_table"]


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

    An attack whose training diverges has no row: it is named in `AttackTable.diverged`.

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
    diverged: dict[str, str] = {}
    before = accuracy(model, validation)
    for attack in [_NONE, *attacks]:
        row = done.get(attack.digest())
        if row is None:
            begun = perf_counter()
            try:
                struck = (
                    Struck(model, model) if attack is _NONE else strike(model, mark, attack, thief)
                )
            except TrainingDiverged as error:
                diverged[attack.label] = error.what
                continue
            seconds = perf_counter() - begun
            row = _row(attack, struck, mark, validation, carriers, before, seconds)
            if on_row is not None:
                on_row(row)
        rows.append(row)
        if path is not None:
            # Rows of the file that this call does not ask for stay in it.
            others = [old for old in done.values() if old not in rows]
            kept = AttackTable(
                identity=identity,
                rows=[*rows, *others],
                environment=environment(),
                diverged=diverged,
            )
            write_json(Path(path), kept.to_dict())
    return AttackTable(identity=identity, rows=rows, environment=environment(), diverged=diverged)


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
