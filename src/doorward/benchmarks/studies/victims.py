"""Marked models that several studies share: trained once per method and seed, kept on disk.

    victim = marked_model(cell, "app")        # trained now, or read back
    victim.model, victim.key, victim.facts["train_seconds"]

A model is named by everything that decides it (data, network, recipe, split, key, method, seed), so
a changed recipe is a new model. They lie in the cache folder, not among the results.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from typing import Any

from doorward.benchmarks.studies.common import load_pair, new_model, recipe_of
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, read_card, save_model
from doorward.data import ImageData
from doorward.files import canonical_json, home_folder
from doorward.models import Classifier
from doorward.randomness import Secret
from doorward.training import Recipe, fit
from doorward.watermark import (
    KeyParameters,
    WatermarkKey,
    embed,
    make_embedding,
    pretrained_recipe,
)

__all__ = ["Parties", "Victim", "kept", "key_of", "marked_model", "parties", "plain_model"]

VERSION = 1
"""Raised when models come to be trained in another way: those on disk are then left alone."""


@dataclasses.dataclass(frozen=True)
class Parties:
    """Who has which images.

    Args:
        owner: trains the marked model.
        thief: attacks it; disjoint from the owner's.
        test: what accuracies are measured on.
    """

    owner: ImageData
    thief: ImageData
    test: ImageData


@dataclasses.dataclass(frozen=True)
class Victim:
    """A model with the key that marks it.

    Args:
        model: on the CPU, in evaluation mode.
        key: its key; the unmarked model has one that it was not marked with.
        facts: train_seconds and steps; of marked ones per_batch and exposures, too.
    """

    model: Classifier
    key: WatermarkKey
    facts: dict[str, Any]


def parties(cell: Cell) -> Parties:
    """Owner's, thief's and test images: the cell's `owner` and `thief` counts of the training set.

    The split is the same in every seed.
    """
    train, test = load_pair(cell)
    owner, thief = train.split(cell.options["owner"], cell.options["thief"], seed=0)
    return Parties(owner, thief, test)


def key_of(cell: Cell, source: ImageData, name: str = "owner") -> WatermarkKey:
    """A key that the same cell derives again. Real keys come from `WatermarkKey.new`."""
    seed = hashlib.sha256(f"study key {name} {cell.seed}".encode()).digest()
    parameters = KeyParameters(
        n=cell.options["triggers"], classes=source.num_classes, image_shape=source.image_shape
    )
    return WatermarkKey(Secret(seed), parameters)


def plain_model(cell: Cell, source: ImageData) -> Victim:
    """The network trained without a mark, by the cell's recipe and seed."""
    recipe = recipe_of(cell)

    def train() -> tuple[Classifier, dict[str, Any]]:
        model = new_model(cell, source)
        run = fit(model, None, source, recipe)
        return model, {"train_seconds": run.seconds, "steps": run.steps}

    model, facts = kept(_name(cell, source, "unmarked", recipe), train)
    return Victim(model, key_of(cell, source), facts)


def marked_model(
    cell: Cell, source: ImageData, method: str, *, mode: str = "from-scratch", **options: Any
) -> Victim:
    """The network marked by an embedding method, by the cell's recipe and seed.

    Args:
        cell: of a study; its seed decides weights and key.
        source: the owner's images.
        method: a name in `doorward.watermark.EMBEDDINGS`.
        mode: ``"from-scratch"``, or ``"pretrained"`` into the `plain_model` of this cell.
        options: of the method.
    """
    recipe, key = recipe_of(cell), key_of(cell, source)
    if mode == "pretrained":
        recipe = pretrained_recipe(recipe, images=len(source), n=key.n)

    def train() -> tuple[Classifier, dict[str, Any]]:
        fresh = mode == "from-scratch"
        model = new_model(cell, source) if fresh else plain_model(cell, source).model
        done = embed(model, source, key, recipe, mode=mode, method=method, **options)  # type: ignore[arg-type]
        return model, {
            "train_seconds": done.fit.seconds,
            "steps": done.fit.steps,
            "per_batch": done.per_batch,
            "exposures": done.exposures,
        }

    chosen = make_embedding(method, options).to_dict()
    name = _name(cell, source, f"{mode} {method}", recipe, chosen)
    model, facts = kept(name, train)
    return Victim(model, key, facts)


def _name(
    cell: Cell,
    source: ImageData,
    kind: str,
    recipe: Recipe,
    options: dict[str, Any] | None = None,
) -> str:
    facts = {
        "version": VERSION,
        "kind": kind,
        "data": source.digest(),
        "architecture": cell.options["architecture"],
        "width": cell.options.get("width"),
        "triggers": cell.options["triggers"],
        "recipe": recipe.to_dict(),
        "options": options or {},
        "seed": cell.seed,
    }
    return hashlib.sha256(canonical_json(facts)).hexdigest()


def kept(
    name: str, train: Callable[[], tuple[Classifier, dict[str, Any]]]
) -> tuple[Classifier, dict[str, Any]]:
    """The model on disk under a name that says everything about it; trained if it is not there."""
    folder = home_folder() / "studies" / name
    if not (folder / "model.json").is_file():
        model, facts = train()
        save_model(model, folder, metrics=facts)
    # Read back even if it was trained just now: both ways the same bytes are measured.
    return load_model(folder), dict(read_card(folder).metrics)
