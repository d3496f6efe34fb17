"""Locks that the studies of trading share: made once, kept on disk, with a clean twin beside them.

    made = locked_model(cell, train, test, masks="channel")
    made.trial, made.bank, made.backdoor, made.result
    made.unlocked(), made.unlocked(other_model)

A lock is named by everything that decides it (data, network, recipe, settings, kind and places of
the masks, seed), so whatever changes makes a new one. They lie in the cache folder, not among the
results. The trigger is one additive pattern of at most 8 grey levels, learnt along.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from torch import nn

from doorward.benchmarks.studies.common import load_pair, new_model, recipe_of, task
from doorward.benchmarks.study import Cell
from doorward.bundles import load_model, save_model
from doorward.data import ImageData
from doorward.files import atomic_folder, canonical_json, home_folder, read_json, write_json
from doorward.metrics import accuracy, attack_outcome
from doorward.models import Classifier
from doorward.randomness import derive_seed
from doorward.trading import Locking, LockResult, MaskBank, TriggerTuning, lock
from doorward.triggers import Backdoor

__all__ = [
    "PLAIN",
    "SHRINKS",
    "Locked",
    "buyers_images",
    "lock_task",
    "locked_model",
    "parties",
    "what_it_does",
]

VERSION = 1
"""Raised when locks come to be made in another way: those on disk are then left alone."""

PLAIN = Locking(trigger=TriggerTuning())
"""The lock's defaults, with a trigger that is learnt."""

SHRINKS = {
    "quick": "Digits at 16x16, a network 8 channels wide, 4 epochs, one seed.",
    "cpu": "10,000 training images instead of 50,000, 10 epochs instead of 100, networks of half "
    "or a quarter of their usual width.",
    "paper": "",
}
"""What is smaller than in the paper's setting, as far as the locks themselves go."""


@dataclasses.dataclass(frozen=True)
class Locked:
    """A lock read back from disk.

    Args:
        trial: on the CPU, in evaluation mode.
        bank: its key.
        backdoor: its trigger and rule.
        result: what was measured when it was made.
    """

    trial: Classifier
    bank: MaskBank
    backdoor: Backdoor
    result: LockResult

    def unlocked(self, model: nn.Module | None = None) -> nn.Module:
        """The trial, or another model, under the key: folded where it folds."""
        put = self.bank.fold if self.result.foldable else self.bank.apply
        return put(self.trial if model is None else model)


def lock_task(tier: str, architecture: str = "resnet8", width: int = 16) -> dict[str, Any]:
    """Options of a setting: data, network and recipe of a tier's locks.

    Args:
        tier: of the study.
        architecture: of the cpu and paper tiers.
        width: of the network in the cpu tier.
    """
    if tier == "quick":
        options = task(
            "digits", "resnet8", width=8, size=16, epochs=4.0, batch_size=32, lr=0.1,
            precision="fp32",
        )  # fmt: skip
        return {**options, "target": 0, "images": None}
    if tier == "cpu":
        options = task("cifar10", architecture, width=width, epochs=10.0, batch_size=128, lr=0.2)
        return {**options, "target": 0, "images": 10_000}
    options = task("cifar10", architecture, epochs=100.0, batch_size=128)
    return {**options, "target": 0, "images": None}


def parties(cell: Cell) -> tuple[ImageData, ImageData]:
    """The seller's images (``cell.options["images"]`` of the training set, or all), and the test's.

    The selection is the same in every seed.
    """
    whole, test = load_pair(cell)
    count = cell.options["images"]
    return (whole if count is None else whole.sample(count, seed=0)), test


def buyers_images(cell: Cell, train: ImageData, share: float) -> ImageData:
    """The clean images of a buyer: a share of as many as the seller has, and among them.

    As in BackdoorBench a defender's images are clean versions of training images; a buyer with
    images of the same kind that were never trained on is a little worse off.
    """
    count = max(train.num_classes, round(share * len(train)))
    return train.sample(count, seed=derive_seed(cell.seed, "buyer"))


def locked_model(
    cell: Cell,
    train: ImageData,
    test: ImageData,
    *,
    masks: str = "channel",
    sites: tuple[str, ...] | None = None,
    settings: Locking = PLAIN,
) -> Locked:
    """The cell's network with a lock, by its recipe and seed.

    Args:
        cell: of a study.
        train: the seller's images.
        test: what the lock is measured on.
        masks: kind of the masks.
        sites: dotted names; None for the kind's defaults.
        settings: all other numbers of the lock.
    """
    recipe = recipe_of(cell)
    facts: dict[str, Any] = {
        "version": VERSION,
        "kind": "locked",
        "data": [train.digest(), test.digest()],
        "architecture": cell.options["architecture"],
        "width": cell.options.get("width"),
        "recipe": recipe.to_dict(),
        "settings": settings.to_dict(),
        "masks": masks,
        "sites": None if sites is None else list(sites),
        "seed": cell.seed,
    }
    folder = home_folder() / "studies" / hashlib.sha256(canonical_json(facts)).hexdigest()
    if not folder.is_dir():
        model = new_model(cell, train)
        made = lock(model, train, recipe, test=test, masks=masks, sites=sites, settings=settings)
        with atomic_folder(folder) as place:
            save_model(made.trial, place / "trial")
            made.bank.save(place / "masks.bank")
            made.backdoor.save(place / "backdoor")
            write_json(place / "result.json", made.result.to_dict())
    # Read back even if it was made just now: both ways the same bytes are measured.
    return _read(folder)


def what_it_does(model: nn.Module, test: ImageData, backdoor: Backdoor) -> dict[str, float]:
    """Accuracy, the trigger's success, and the share of triggered images that stay right."""
    outcome = attack_outcome(model, test, backdoor)
    return {
        "accuracy": accuracy(model, test),
        "attack": outcome.attack_success,
        "restored": outcome.robust_accuracy,
    }


def _read(folder: Path) -> Locked:
    return Locked(
        load_model(folder / "trial"),
        MaskBank.load(folder / "masks.bank"),
        Backdoor.load(folder / "backdoor"),
        LockResult.from_dict(read_json(folder / "result.json")),
    )
