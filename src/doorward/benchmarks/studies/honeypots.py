"""What the studies of the honeypot share: guarded victims, copies of them, independent models.

guarded = guard(cell, victim, mine, who.owner, "look-ahead")
copy = copy_of(cell, guarded.model, who.thief)
success(copy, test, guarded.triggers)
"""

from __future__ import annotations

import dataclasses
import hashlib
import time
from typing import Any

from torch import nn

from doorward.benchmarks.studies.common import recipe_of, task
from doorward.benchmarks.studies.victims import plain_model
from doorward.benchmarks.study import Cell
from doorward.data import Augment, ImageData
from doorward.extraction import steal
from doorward.honeypot import LeanBudget, LeanKey, Menu, fit_head, fit_lean, make_menu
from doorward.honeypot.lean import Cost, LeanParameters
from doorward.metrics import attack_success
from doorward.models import Classifier
from doorward.randomness import Secret
from doorward.triggers import AllToOne, Backdoor, Waves

__all__ = [
    "LEVEL",
    "Guarded",
    "copy_of",
    "guard",
    "independent",
    "key_of_lean",
    "options_of",
    "success",
    "waves_of",
]

LEVEL = 48
"""Amplitude of the waves that success is measured at, of 255."""


@dataclasses.dataclass(frozen=True)
class Guarded:
    """A victim with a honeypot.

    Args:
        model: what is served.
        triggers: what a copy is to fall for.
        cost: on the owner's half of the test images.
        seconds: that fitting took.
        key: of the lean.
        menu: that the key drew from.
    """

    model: nn.Module
    triggers: tuple[Backdoor, ...]
    cost: Cost
    seconds: float
    key: LeanKey
    menu: Menu


def options_of(tier: str) -> tuple[dict[str, Any], str, str]:
    """Options, name and shrinks of a setting in a tier."""
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=6.0)
        options |= {"owner": 700, "thief": 737, "bits": 2, "copy": 6.0, "simulated": 300}
        options |= {"menu": {"quietest": 5 / 255, "spacing": 1}, "independent": 2}
        options["budget"] = {"ece_change": 0.1, "agreement": 0.97, "accuracy_drop": 0.02}
        small = {"options": {"width": 8}}
        ahead = {"shadows": [small, {**small, "labels": True}], "epochs": 3.0, "rounds": 1}
        ahead |= {"more_epochs": 1.0, "patch_updates": 8, "patch_images": 100}
        faithful = {"shadow": "resnet8", "shadow_options": {"width": 8}, "rounds": 2}
        name = "digits 16x16, resnet8 (width 8)"
        shrinks = (
            "Digits of 16x16 pixels, a quarter of the width, two waves, two rounds of the paper's "
            "loop, wide bounds: this checks that the study works."
        )
    elif tier == "cpu":
        options = task("cifar10", "resnet8", epochs=5.0)
        options |= {"owner": 30_000, "thief": 20_000, "bits": 3, "copy": 5.0, "simulated": 2000}
        options |= {"menu": {}, "independent": 20, "budget": {}}
        ahead = {"epochs": 20.0, "more_epochs": 5.0}
        faithful = {"shadow": "resnet8", "rounds": 10}
        name = "cifar10, resnet8, 5 epochs"
        shrinks = (
            "ResNet-8 and 5 epochs instead of ResNet-18 and 60, for victim, copies and independent "
            "models; the owner plays the thief with 2,000 images instead of 5,000; the paper's "
            "loop has 10 rounds instead of 30."
        )
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        options |= {"owner": 30_000, "thief": 20_000, "bits": 3, "copy": 60.0, "simulated": 5000}
        options |= {"menu": {}, "independent": 20, "budget": {}}
        ages = [{"architecture": "resnet18"}, {"architecture": "resnet18", "age": 0.5}]
        shadows = [*ages, {"architecture": "resnet18", "labels": True}, {"architecture": "resnet8"}]
        ahead, faithful = {"shadows": shadows, "epochs": 60.0}, {}
        name, shrinks = "cifar10, resnet18", ""
    options |= {"triggers": 1, "look-ahead": ahead, "faithful": faithful}
    return options, name, shrinks


def key_of_lean(cell: Cell, name: str = "key") -> LeanKey:
    """A key that the same cell derives again. Real ones come from `LeanKey.new`."""
    secret = hashlib.sha256(f"study lean {name} {cell.seed}".encode()).digest()
    return LeanKey(Secret(secret), LeanParameters(bits=cell.options["bits"]))


def guard(cell: Cell, victim: nn.Module, mine: ImageData, own: ImageData, method: str) -> Guarded:
    """A victim with a honeypot.

    Args:
        cell: its options hold the budget and the parameters of the methods.
        victim: the undefended model.
        mine: labelled images that the bounds hold on.
        own: the owner's training images, of which some play the thief's.
        method: ``undefended``, ``lean``, ``look-ahead``, ``faithful``, or ``look-ahead + lean``.
    """
    begun = time.perf_counter()
    key, budget = key_of_lean(cell), LeanBudget.from_dict(cell.options["budget"])
    menu = make_menu(victim, mine, seed=cell.seed, **cell.options["menu"])
    model, triggers, cost = victim, waves_of(key, menu), None
    for part in method.split(" + "):
        if part in ("look-ahead", "faithful"):
            pool = own.sample(cell.options["simulated"], seed=cell.seed)
            given: dict[str, Any] = cell.options[part]
            model, head = fit_head(
                model, mine, pool, method=part, budget=budget, seed=cell.seed, **given
            )
            triggers, cost = (head.backdoor(),), head.cost
        elif part == "lean":
            before = model
            model, lean = fit_lean(before, mine, key, budget=budget, menu=menu)
            cost, added = lean.cost, () if before is victim else triggers
            triggers = (*added, *waves_of(key, menu))
    seconds = time.perf_counter() - begun
    free = Cost(agreement=1.0, accuracy_drop=0.0, ece_change=0.0, target_share=0.0)
    return Guarded(model, triggers, cost or free, seconds, key, menu)


def waves_of(key: LeanKey, menu: Menu, level: float = LEVEL / 255) -> tuple[Backdoor, ...]:
    """The waves of a key, each with its class."""
    return tuple(
        Backdoor(Waves(across=b.across, down=b.down, amplitude=level), AllToOne(target=b.target))
        for b in key.choose(menu)
    )


def copy_of(
    cell: Cell,
    served: object,
    pool: ImageData,
    *,
    seed: int = 1000,
    answers: str = "soft",
    cutout: int = 0,
) -> Classifier:
    """What a thief makes of the answers to a pool."""
    recipe = recipe_of(cell, epochs=cell.options["copy"], seed=seed + cell.seed)
    if cutout:
        augment = Augment.from_dict({**recipe.augment.to_dict(), "cutout": cutout})
        recipe = dataclasses.replace(recipe, augment=augment)
    width = cell.options["width"]
    copy, _ = steal(
        served,
        pool,
        budget=len(pool),
        answers=answers,
        substitute=cell.options["architecture"],
        options={} if width is None else {"width": width},
        recipe=recipe,
        seed=seed + cell.seed,
        progress=False,
    )
    assert isinstance(copy, Classifier)  # noqa: S101 - of the zoo, as asked for
    return copy


def independent(cell: Cell, own: ImageData, count: int) -> list[Classifier]:
    """Models of the owner's task that never saw an answer: the same for all cells of a tier."""
    return [
        plain_model(dataclasses.replace(cell, seed=100 + number), own).model
        for number in range(count)
    ]


def success(model: nn.Module, test: ImageData, triggers: tuple[Backdoor, ...]) -> float:
    """Attack success, the mean over triggers."""
    return sum(attack_success(model, test, trigger) for trigger in triggers) / len(triggers)
