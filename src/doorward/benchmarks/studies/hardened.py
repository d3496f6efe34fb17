"""Hardened models that studies share: trained once per method and seed, kept on disk.

    one = hardened_model(cell, train, held, "deck")
    one.model, one.seconds, one.result

``cell.options["hardening"]`` maps methods to parameters that differ from their defaults. A model is
named by everything that decides it, as in `doorward.benchmarks.studies.planted`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from torch import nn

from doorward.benchmarks.studies.common import recipe_of
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, save_model
from doorward.data import ImageData
from doorward.files import atomic_folder, canonical_json, home_folder, read_json, write_json
from doorward.hardening import (
    DistanceResult,
    Hardening,
    HardeningResult,
    Measuring,
    class_distances,
    harden,
    hardening,
)
from doorward.removal.purging.memory import weights_digest

__all__ = ["NOTHING", "Hardened", "hardened_model", "kept_distances", "method_of", "parted"]

NOTHING = "none"
VERSION = 1
"""Raised when models come to be hardened in another way: those on disk are then left alone."""


@dataclasses.dataclass(frozen=True)
class Hardened:
    """A model after hardening, and before.

    Args:
        original: the clean model, on the CPU.
        model: the hardened one; the same for no hardening.
        result: None for no hardening.
        train_seconds: that the original's training took.
    """

    original: nn.Module
    model: nn.Module
    result: HardeningResult | None
    train_seconds: float

    @property
    def seconds(self) -> float:
        """That hardening took."""
        return 0.0 if self.result is None else self.result.seconds


def parted(test: ImageData) -> tuple[ImageData, ImageData]:
    """Test images to hold the budget by, and those to measure on: the same in every cell."""
    held, rest = test.split(len(test) // 2, len(test) - len(test) // 2, seed=0)
    return held, rest


def method_of(cell: Cell, name: str) -> Hardening:
    """A method with the cell's numbers; what stands before a comma is its name."""
    return hardening(name.partition(",")[0], **cell.options["hardening"].get(name, {}))


def hardened_model(cell: Cell, train: ImageData, held: ImageData, name: str) -> Hardened:
    """The cell's clean model after a method, or as it is.

    Args:
        cell: of a study; its seed and its options decide.
        train: images of the original's training, and of hardening.
        held: to hold the budget by.
        name: a key of ``cell.options["hardening"]``, a method, or `NOTHING`.
    """
    clean = clean_model(cell, train)
    if name == NOTHING:
        return Hardened(clean.model, clean.model, None, clean.seconds)
    method = method_of(cell, name)
    facts: dict[str, Any] = {
        "version": VERSION,
        "kind": "hardened",
        "data": [train.digest(), held.digest()],
        "network": [cell.options["architecture"], cell.options.get("width")],
        "recipe": recipe_of(cell).to_dict(),
        "method": [method.name, method.to_dict()],
        "seed": cell.seed,
    }
    folder = home_folder() / "studies" / hashlib.sha256(canonical_json(facts)).hexdigest()
    if not folder.is_dir():
        model, result = harden(clean.model, train, method, validation=held, seed=cell.seed)
        with atomic_folder(folder) as place:
            save_model(model, place / "model")
            write_json(place / "result.json", result.to_dict())
    # Read back even if it was trained just now: both ways the same bytes are measured.
    told = HardeningResult.from_dict(read_json(folder / "result.json"))
    return Hardened(clean.model, load_model(folder / "model"), told, clean.seconds)


def kept_distances(
    model: nn.Module,
    unseen: ImageData,
    attack: Measuring,
    pairs: list[tuple[int, int]],
    *,
    seed: int,
    reference: nn.Module,
) -> DistanceResult:
    """Class distances, measured once per model: those of the original serve every method.

    Args:
        model: to measure.
        unseen: images.
        attack: that measures.
        pairs: of classes.
        seed: of the attack.
        reference: whose feature maps ``"lpips"`` compares.
    """
    facts = {
        "version": VERSION,
        "kind": "distances",
        "models": [weights_digest(model), weights_digest(reference)],
        "data": unseen.digest(),
        "attack": attack.to_dict(),
        "pairs": pairs,
        "seed": seed,
    }
    folder = home_folder() / "studies" / hashlib.sha256(canonical_json(facts)).hexdigest()
    if not (folder / "distances.json").is_file():
        found = class_distances(
            model, unseen, attack=attack, kind=attack.kind, pairs=pairs, seed=seed,
            reference=reference,
        )  # fmt: skip
        write_json(folder / "distances.json", found.to_dict())
    return DistanceResult.from_dict(read_json(folder / "distances.json"))
