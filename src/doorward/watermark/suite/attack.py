"""What an attack on a mark is: a named method with its numbers, and a thief who runs it.

>>> attack = Attack(method="fine-tuning", parameters={"lr": 0.01}, label="FTAL 1e-2")
>>> attack.label, attack.digest() == Attack.from_dict(attack.to_dict()).digest()
('FTAL 1e-2', True)

Every removal method of `doorward.removal` is an attack by its own name; `ATTACKS` holds those that
only concern watermarks: overwriting, distillation, extraction, transfer to another task.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass as plain_dataclass
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, UnknownName
from doorward.models import Classifier, find_head, replace_head
from doorward.records import STRICT, Record
from doorward.registry import Registry
from doorward.removal import REMOVALS, removal, remove
from doorward.training import Recipe
from doorward.watermark.triggerset import TriggerSet

__all__ = ["ATTACKS", "Attack", "Strike", "Struck", "Thief", "strike"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Attack(Record):
    """One row of the table.

    Args:
        method: a name in `ATTACKS` or in `doorward.removal.REMOVALS`.
        parameters: of the method; what is left out has its default.
        share: of the thief's images that it may use, in (0, 1].
        label: how tables call it; by default method and parameters.
    """

    method: Annotated[str, Field(min_length=1, max_length=100)]
    parameters: dict[str, Any] = Field(default_factory=dict)
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    label: Annotated[str, Field(max_length=200)] = ""

    def __post_init__(self) -> None:
        if not self.label:
            numbers = ", ".join(f"{name} {value}" for name, value in self.parameters.items())
            object.__setattr__(self, "label", f"{self.method} {numbers}".strip())


@plain_dataclass(frozen=True, kw_only=True)
class Thief:
    """What the attacker has.

    Args:
        data: labelled clean images of the task.
        recipe: how the attacker trains where it trains from scratch.
        pool: images to query the model with, for extraction; None means `data`.
        other: labelled images of another task, for transfer; None means none.
        seed: of everything random.
        device: where to compute.
    """

    data: ImageData
    recipe: Recipe
    pool: ImageData | None = None
    other: ImageData | None = None
    seed: int = 0
    device: str = "auto"


@plain_dataclass(frozen=True)
class Struck:
    """What an attack leaves.

    Args:
        suspect: the attacked model; its accuracy counts. None if it has another task.
        asked: the model whose answers the verifier judges: the suspect, or, where the attacker
            drew a new head, the suspect's body under the owner's old head (Adi et al. keep it
            as part of the private key).
        old_head: whether that is so.
        facts: what else is worth recording, JSON-ready.
    """

    suspect: nn.Module
    asked: nn.Module
    old_head: bool = False
    facts: dict[str, Any] | None = None


Strike = Callable[..., Struck]
ATTACKS: Registry[Strike] = Registry("attack on a watermark")
"""Functions ``(model, mark, thief, **parameters) -> Struck`` that leave `model` as it is."""


def strike(model: nn.Module, mark: TriggerSet, attack: Attack, thief: Thief) -> Struck:
    """Run one attack on a copy of a marked model.

    Args:
        model: the marked model; it is not changed.
        mark: what it was marked with. Attacks do not use it, but overwriting draws another one
            of the same size.
        attack: which.
        thief: with what.

    Raises:
        UnknownName: no such method; the message lists all.
        InvalidInput: a parameter is unknown or out of range, or the thief lacks what it needs.
    """
    check_attack(attack)
    held = thief.data
    if attack.share < 1:
        count = max(held.num_classes, round(attack.share * len(held)))
        held = held.sample(min(count, len(held)), seed=thief.seed)
    thief = dataclasses.replace(thief, data=held)
    if attack.method in ATTACKS:
        return ATTACKS[attack.method](model, mark, thief, **attack.parameters)
    method = removal(attack.method, **attack.parameters)
    repaired, result = remove(model, held, method, seed=thief.seed, device=thief.device)
    fresh_head = bool(getattr(method, "reinit_head", False))
    asked = under_old_head(repaired, model) if fresh_head else repaired
    return Struck(repaired, asked, fresh_head, result.details)


def check_attack(attack: Attack) -> None:
    """Refuse, before any work, a method or parameter that does not exist.

    Raises:
        UnknownName: there is no such removal method or attack.
        InvalidInput: the method has no such parameter, or it is out of range.
    """
    if attack.method in REMOVALS:
        removal(attack.method, **attack.parameters)
        return
    if attack.method not in ATTACKS:
        names = [*ATTACKS.names(), *REMOVALS.names()]
        raise UnknownName.of("attack", attack.method, names)
    taken = inspect.signature(ATTACKS[attack.method]).parameters.values()
    names = [each.name for each in taken if each.kind is each.KEYWORD_ONLY]
    for name in attack.parameters:
        if name not in names:
            raise UnknownName.of(f"parameter of {attack.method}", name, names)


def check_all(
    mark: TriggerSet,
    thief: Thief,
    validation: ImageData,
    carriers: ImageData | None,
    attacks: Sequence[Attack],
) -> None:
    """Refuse, before any work, attacks or images that do not fit the mark or the thief.

    Raises:
        UnknownName, InvalidInput: as `check_attack`; or transfer has no other task, or images are
            of another shape or other classes than the mark's.
    """
    for attack in attacks:
        check_attack(attack)
        if attack.method == "transfer" and thief.other is None:
            raise InvalidInput(
                "transfer needs another task",
                remedy="give the thief other labelled images, or leave this attack out",
            )
    for what, images, labelled in (
        ("the thief's images", thief.data, True),
        ("the thief's pool", thief.pool, False),
        ("the test images", validation, True),
        ("the carriers", carriers, False),
    ):
        if images is None:
            continue
        fits = images.image_shape == mark.image_shape
        if not fits or (labelled and images.num_classes != mark.classes):
            raise InvalidInput(
                f"the mark is for {mark.classes} classes of images {mark.image_shape}",
                why=f"{what} are {images.image_shape} of {images.num_classes} classes",
                remedy="resize the images, or give those of the mark's task",
            )


def under_old_head(suspect: nn.Module, original: nn.Module) -> nn.Module:
    """A copy of the suspect that answers through the original's head.

    Raises:
        ModelUnsuitable: one of them has no linear head.
        InvalidInput: the heads do not take the same features.
    """
    _, old = find_head(original)
    _, new = find_head(suspect)
    if old.in_features != new.in_features:
        raise InvalidInput(
            f"the old head takes {old.in_features} features, the suspect has {new.in_features}",
            why="the suspect is not built on the marked model",
        )
    asked = copy.deepcopy(suspect)
    classes = original.classes if isinstance(original, Classifier) else None
    replace_head(asked, copy.deepcopy(old), classes=classes)
    return asked
