"""Models under suspicion for the studies of scanning: clean ones and attacked ones, kept on disk.

    suspect = suspect_of(cell)
    suspect.model, suspect.targets, suspect.attack_success

``cell.options["suspect"]`` says which: ``{"kind": "clean", "copy": 3}``, ``{"kind": "patch",
"patch": {...}, "target": 2}`` or ``{"kind": "attack", "name": "blend"}``. The first two start from
one clean network for each architecture, which is trained on: clean copies on clean images, in
another order each, attacked ones on poisoned images, both by the recipe in
``cell.options["tuning"]``. Named attacks are trained from scratch (see `planted_model`).
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from doorward.benchmarks.studies.common import load_pair, recipe_of
from doorward.benchmarks.studies.planted import clean_model, planted_model
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, read_card, save_model
from doorward.data import ImageData
from doorward.files import canonical_json, home_folder
from doorward.metrics import accuracy
from doorward.models import Classifier
from doorward.poisoning import implant
from doorward.randomness import derive_seed
from doorward.training import Recipe, fit
from doorward.triggers import AllToOne, Backdoor, Patch

__all__ = ["Suspect", "suspect_of"]

VERSION = 1
"""Raised when models come to be trained in another way: those on disk are then left alone."""


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A model to scan, and the truth about it.

    Args:
        model: on the CPU, in evaluation mode.
        digest: names it.
        targets: attacked classes; none for a clean model.
        accuracy: on the test images.
        attack_success: of the planted trigger; None for a clean model.
    """

    model: Classifier
    digest: str
    targets: tuple[int, ...]
    accuracy: float
    attack_success: float | None


def suspect_of(cell: Cell) -> Suspect:
    """Train the cell's suspect, or read it back."""
    train, test = load_pair(cell)
    what = cell.options["suspect"]
    if what["kind"] == "attack":
        return _attacked(cell, train, test, what["name"])
    recipe = _tuning(cell, what)
    facts = {
        "version": VERSION,
        "data": train.digest(),
        "test": test.digest(),
        "network": [cell.options["architecture"], cell.options.get("width")],
        "start": recipe_of(cell).to_dict(),
        "recipe": recipe.to_dict(),
        "suspect": what,
    }
    digest = hashlib.sha256(canonical_json(facts)).hexdigest()
    folder = home_folder() / "studies" / digest
    if not (folder / "model.json").is_file():
        model = clean_model(cell, train).model
        save_model(model, folder, metrics=_tune(model, train, test, recipe, what))
    measured: dict[str, Any] = dict(read_card(folder).metrics)
    return Suspect(
        # Read back even if it was trained just now: both ways the same bytes are measured.
        load_model(folder),
        digest,
        () if what["kind"] == "clean" else (what["target"],),
        float(measured["accuracy"]),
        None if what["kind"] == "clean" else float(measured["attack_success"]),
    )


def _tuning(cell: Cell, what: dict[str, Any]) -> Recipe:
    seed = derive_seed(cell.seed, "suspect", canonical_json(what).decode())
    return Recipe.from_dict({**cell.options["tuning"], "seed": seed})


def _tune(
    model: Classifier, train: ImageData, test: ImageData, recipe: Recipe, what: dict[str, Any]
) -> dict[str, float]:
    """Train on in place; what was measured."""
    if what["kind"] == "clean":
        fit(model, None, train, recipe)
        return {"accuracy": accuracy(model, test)}
    backdoor = Backdoor(Patch(**what["patch"]), AllToOne(what["target"]))
    result = implant(model, train, backdoor, recipe, rate=what["rate"], test=test)
    return {"accuracy": result.accuracy, "attack_success": result.attack_success}


def _attacked(cell: Cell, train: ImageData, test: ImageData, name: str) -> Suspect:
    victim = planted_model(cell, train, test, name)
    facts = {
        "attack": name,
        "seed": cell.seed,
        "backdoor": victim.backdoor.to_dict(),
        "result": victim.result.to_dict(),
        "network": [cell.options["architecture"], cell.options.get("width")],
    }
    target = getattr(victim.backdoor.rule, "target", None)
    everything = tuple(range(train.num_classes))
    return Suspect(
        victim.model,
        hashlib.sha256(canonical_json(facts)).hexdigest(),
        everything if target is None else (target,),  # all-to-all attacks every class
        victim.result.accuracy,
        victim.result.attack_success,
    )
