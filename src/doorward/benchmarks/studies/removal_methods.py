"""What the studies of removal share: the methods, at what cost they are run, and what they leave.

    treated = treat(cell, "ft-sam", victim.model, clean)
    treated.model, treated.seconds, treated.peak_memory_mib, treated.note

Constants of a tier stand in the cell's options, so that a changed constant voids old rows.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

import doorward.hardening  # noqa: F401 - it files the methods moth and deck
from doorward.benchmarks.study import Cell
from doorward.data import ImageData
from doorward.randomness import derive_seed
from doorward.removal import purge, removal, remove
from doorward.scanning import scanner

__all__ = ["METHODS", "NOTHING", "PURGES", "Treated", "clean_share", "parameters", "treat"]

NOTHING = "no defence"
PURGES = ("purge", "purge, always finished")
METHODS = (
    NOTHING,
    "fine-tuning",
    "fine-pruning",
    "nad",
    "anp",
    "i-bau",
    "ft-sam",
    "fst",
    "rnp",
    "clp",
    "bti-dbf",
    "sau",
    "nc-unlearning",
    "moth",
    "deck",
    *PURGES,
)
"""All rows of the board."""


@dataclasses.dataclass(frozen=True)
class Treated:
    """A model after a removal.

    Args:
        model: on the CPU, in evaluation mode.
        seconds: wall-clock time of the removal.
        peak_memory_mib: its largest resident set (CPU) or allocation (CUDA).
        note: what a purge said.
        found: whether a purge found a backdoor; None for other methods.
    """

    model: nn.Module
    seconds: float
    peak_memory_mib: float
    note: str = ""
    found: bool | None = None


def clean_share(cell: Cell, train: ImageData) -> ImageData:
    """The defender's images: ``cell.options["share"]`` of the training set, with true labels.

    As in BackdoorBench they are clean versions of images that the victim was trained with.
    """
    count = max(train.num_classes, round(cell.options["share"] * len(train)))
    return train.sample(count, seed=derive_seed(cell.seed, "clean share"))


def treat(cell: Cell, method: str, model: nn.Module, clean: ImageData) -> Treated:
    """Apply a method of the board to a copy of a model.

    Args:
        cell: ``cell.options["methods"]`` maps names to parameters that differ from the defaults,
            ``cell.options["purge"]`` holds scanner, scanner_options, finish, rounds
            and budget_accuracy.
        method: one of `METHODS`.
        model: the victim.
        clean: the defender's images.
    """
    if method == NOTHING:
        return Treated(model, 0.0, 0.0)
    if method not in PURGES:
        chosen = removal(method, **cell.options["methods"].get(method, {}))
        repaired, result = remove(model, clean, chosen, seed=cell.seed)
        return Treated(repaired, result.seconds, result.peak_memory_mib)
    numbers = dict(cell.options["purge"])
    looker = scanner(numbers.pop("scanner"), **numbers.pop("scanner_options"))
    # Named without parameters, a method is fitted to the number of images.
    finish = [removal(n, **changed) if changed else n for n, changed in numbers.pop("finish")]
    purged, told = purge(
        model,
        clean,
        scanner=looker,
        finish=finish,
        always_finish=method == PURGES[1],
        seed=cell.seed,
        **numbers,
    )
    return Treated(purged, told.seconds, told.peak_memory_mib, told.told(), told.found)


def parameters(tier: str, share: float) -> dict[str, Any]:
    """Constants of the methods, and of purges, for the cells of a tier.

    Args:
        tier: ``"paper"`` leaves every method at its paper's defaults; the others cut epochs.
        share: of the training set that is clean: with less of it, epochs are shorter and more.
    """
    if tier == "paper":
        return {"methods": {}, "purge": _purge()}
    if tier == "quick":
        return {"methods": _cut(2.0, 20, 1), "purge": {**_purge(), **_quick_purge()}}
    return {"methods": _cut(0.25 / share, 200, 2), "purge": {**_purge(), "rounds": 1}}


def _purge() -> dict[str, Any]:
    return {
        "scanner": "mesa",
        "scanner_options": {},
        "finish": [["fst", {}], ["ft-sam", {}]],
        "rounds": 3,
        "budget_accuracy": 1.0,
    }


def _quick_purge() -> dict[str, Any]:
    return {
        "scanner": "pixel",
        "scanner_options": {"epochs": 4},
        "finish": [["fst", {"epochs": 3.0}]],
        "rounds": 1,
        "budget_accuracy": 4.0,
    }


def _cut(epochs: float, iterations: int, rounds: int) -> dict[str, dict[str, Any]]:
    """Parameters with which every method passes over about as many images."""
    whole = max(1, round(epochs))
    return {
        "fine-tuning": {"epochs": epochs},
        "fine-pruning": {"epochs": epochs},
        "nad": {"epochs": epochs / 2, "teacher_epochs": epochs / 2},
        "anp": {"iterations": iterations},
        "i-bau": {"rounds": rounds},
        "ft-sam": {"epochs": epochs},
        "fst": {"epochs": epochs},
        "rnp": {"iterations": iterations, "unlearn_epochs": whole},
        "bti-dbf": {
            "rounds": 1,
            "mask_epochs": whole,
            "translate_epochs": whole,
            "unlearn_epochs": whole,
        },
        "sau": {"epochs": max(1.0, epochs / 4)},
        "nc-unlearning": {"epochs": epochs, "search_epochs": max(2, whole)},
        "moth": _hardened(iterations),
        "deck": _hardened(iterations),
    }


def _hardened(iterations: int) -> dict[str, Any]:
    """Hardening in about as many passes of images: most of them are in the searches."""
    search = max(4, iterations // 10)
    return {
        "steps": max(6, iterations * 3 // 4),
        "first_steps": search,
        "next_steps": max(2, search // 4),
        "warm_steps": search,
    }
