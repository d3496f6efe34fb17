"""Victims that MESA's experiments attack, and the triggers recovered of them, kept on disk.

    victim = injected_model(cell, train, pattern_trigger(170), "170")
    triggers, seconds = kept_search(victim, "points", constants, lambda: reverse_points(...))

One clean network per seed is tuned a little more for each trigger, as in the paper. Everything is
named by what decides it, as in `doorward.benchmarks.studies.planted`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from doorward.benchmarks.studies.common import recipe_of
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, save_model
from doorward.data import ImageData
from doorward.files import atomic_folder, canonical_json, home_folder, read_json, write_json
from doorward.models import Classifier
from doorward.scanning import Recovered, load_recovered, save_recovered
from doorward.scanning.mesa.reference import INJECTION, inject
from doorward.triggers import AllToOne, Backdoor, Trigger

__all__ = ["Injected", "injected_model", "kept_search"]

VERSION = 1
"""Raised when victims or searches come to be made in another way."""


@dataclasses.dataclass(frozen=True)
class Injected:
    """A victim.

    Args:
        model: on the CPU, in evaluation mode.
        backdoor: what was planted.
        name: digest of everything that decided the model.
    """

    model: Classifier
    backdoor: Backdoor
    name: str


def injected_model(cell: Cell, source: ImageData, trigger: Trigger) -> Injected:
    """The cell's clean network with a backdoor, planted as in the paper.

    Args:
        cell: of a study; ``cell.options`` holds ``target`` and ``injection``: changes of the
            paper's recipe, ``probability``, and ``images``, how many of the training images the
            attacker tunes with (None for all).
        source: training images.
        trigger: what is planted.
    """
    backdoor = Backdoor(trigger, AllToOne(int(cell.options["target"])))
    numbers = dict(cell.options["injection"])
    probability, images = numbers.pop("probability"), numbers.pop("images")
    recipe = dataclasses.replace(INJECTION, **numbers)
    name = _digest(
        kind="injected",
        data=source.digest(),
        architecture=cell.options["architecture"],
        width=cell.options.get("width"),
        clean=recipe_of(cell).to_dict(),
        recipe=recipe.to_dict(),
        probability=probability,
        images=images,
        backdoor=backdoor.to_dict(),
        seed=cell.seed,
    )
    folder = home_folder() / "studies" / name
    if not (folder / "model.json").is_file():
        model = clean_model(cell, source).model
        work = source if images is None else source.sample(images, seed=cell.seed)
        run = inject(model, work, backdoor, recipe, probability=probability, seed=cell.seed)
        save_model(model, folder, metrics={"seconds": run.seconds})
    return Injected(load_model(folder), backdoor, name)


def kept_search(
    victim: Injected,
    kind: str,
    constants: Mapping[str, Any],
    search: Callable[[], Recovered | None],
) -> tuple[Recovered | None, float]:
    """Triggers recovered of a victim, searched now or read back.

    Args:
        victim: whose.
        kind: of search.
        constants: that decide its outcome, images and seed included, JSON-ready.
        search: does it; None if nothing was found.

    Returns:
        The triggers, and the seconds that the search took.
    """
    folder = home_folder() / "studies" / _digest(kind=kind, of=victim.name, constants=constants)
    if not folder.is_dir():
        begun = time.perf_counter()
        found = search()
        facts = {"seconds": time.perf_counter() - begun, "found": found is not None}
        with atomic_folder(folder) as place:
            write_json(place / "facts.json", facts)
            if found is not None:
                save_recovered(found, place / "recovered")
    facts = read_json(folder / "facts.json")
    recovered = load_recovered(folder / "recovered") if facts["found"] else None
    return recovered, float(facts["seconds"])


def _digest(**facts: Any) -> str:
    return hashlib.sha256(canonical_json({"version": VERSION, **facts})).hexdigest()
