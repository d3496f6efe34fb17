"""Clean models and victims of named attacks that studies share: trained once, kept on disk.

    clean = clean_model(cell, train)
    victim = planted_model(cell, train, test, "badnets")
    victim.model, victim.backdoor, victim.result.attack_success

A model is named by everything that decides it (data, network, recipe, attack and its constants,
target, seed), so whatever changes makes a new model. They lie in the cache folder, not among the
results. The attacker's class is ``cell.options["target"]``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from doorward.benchmarks.studies.common import new_model, recipe_of
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, read_card, save_model
from doorward.data import ImageData
from doorward.files import atomic_folder, canonical_json, home_folder, read_json, write_json
from doorward.models import Classifier
from doorward.poisoning import ATTACKS, PoisonResult, attack, default_rate, plant
from doorward.records import measure
from doorward.training import fit
from doorward.triggers import Backdoor

__all__ = ["Clean", "Planted", "clean_model", "planted_model"]

VERSION = 1
"""Raised when models come to be trained in another way: those on disk are then left alone."""


@dataclasses.dataclass(frozen=True)
class Clean:
    """A model without a backdoor.

    Args:
        model: on the CPU, in evaluation mode.
        seconds: that its training took.
    """

    model: Classifier
    seconds: float


@dataclasses.dataclass(frozen=True)
class Planted:
    """A victim.

    Args:
        model: on the CPU, in evaluation mode.
        backdoor: what was planted.
        result: what was measured when it was.
        seconds: that the whole attack took, phases before the training included.
    """

    model: Classifier
    backdoor: Backdoor
    result: PoisonResult
    seconds: float


def clean_model(cell: Cell, source: ImageData) -> Clean:
    """The cell's network trained by its recipe and seed on clean images."""
    folder = _folder(cell, source, {"kind": "clean"})
    if not (folder / "model.json").is_file():
        model = new_model(cell, source)
        run = fit(model, None, source, recipe_of(cell))
        save_model(model, folder, metrics={"seconds": run.seconds})
    # Read back even if it was trained just now: both ways the same bytes are measured.
    facts: dict[str, Any] = dict(read_card(folder).metrics)
    return Clean(load_model(folder), float(facts["seconds"]))


def planted_model(
    cell: Cell, source: ImageData, test: ImageData, name: str, *, rate: float | None = None
) -> Planted:
    """The cell's network with a backdoor, by its recipe, target and seed.

    Args:
        cell: of a study; ``cell.options["target"]`` is the attacker's class.
        source: training images.
        test: what accuracy and attack success are measured on.
        name: one of ``ATTACKS.names()``.
        rate: poison rate; None for the attack's usual one.
    """
    target = int(cell.options["target"])
    share = default_rate(name) if rate is None else rate
    facts = {
        "kind": "planted",
        "attack": name,
        "constants": _constants(cell, source, name),
        "target": target,
        "rate": share,
        "test": test.digest(),
    }
    folder = _folder(cell, source, facts)
    if not folder.is_dir():
        model = new_model(cell, source)
        with measure() as meter:
            backdoor, result = plant(
                model, source, name, recipe_of(cell), target=target, rate=share, test=test
            )
        with atomic_folder(folder) as place:
            save_model(model, place / "model")
            backdoor.save(place / "backdoor")
            write_json(
                place / "result.json", {"result": result.to_dict(), "seconds": meter.seconds}
            )
    content = read_json(folder / "result.json")
    return Planted(
        load_model(folder / "model"),
        Backdoor.load(folder / "backdoor"),
        PoisonResult.from_dict(content["result"]),
        float(content["seconds"]),
    )


def _constants(cell: Cell, source: ImageData, name: str) -> dict[str, Any]:
    """What an attack does by default, so that other defaults are another model."""
    entry = ATTACKS[name]
    if isinstance(entry, type):
        return entry().to_dict()
    target = int(cell.options["target"])
    built = attack(
        name,
        image_shape=source.image_shape,
        target=target,
        classes=source.num_classes,
        seed=cell.seed,
    )
    return built.to_dict()


def _folder(cell: Cell, source: ImageData, facts: dict[str, Any]) -> Path:
    whole = {
        "version": VERSION,
        "data": source.digest(),
        "architecture": cell.options["architecture"],
        "width": cell.options.get("width"),
        "recipe": recipe_of(cell).to_dict(),
        "seed": cell.seed,
        **facts,
    }
    return home_folder() / "studies" / hashlib.sha256(canonical_json(whole)).hexdigest()
