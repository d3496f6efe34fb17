"""Label rules: which label the attacker wants for a triggered image, and which images count.

>>> labels = torch.tensor([0, 1, 2])
>>> rule = AllToAll(classes=3)
>>> rule.labels(labels)
tensor([1, 2, 0])
>>> AllToOne(target=1).eligible(labels)
tensor([ True, False,  True])

A rule answers three questions: what is the attacker's label (`labels`), which images count for
attack success (`eligible`, never those that have the attacker's label already), and which
training images may be poisoned (`poisonable`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import Field, field_validator, model_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.registry import Registry

__all__ = [
    "RULES",
    "AllToAll",
    "AllToOne",
    "CleanLabel",
    "LabelRule",
    "SourceToTarget",
    "rule_from_dict",
    "rule_to_dict",
]

Label = Annotated[int, Field(ge=0, strict=True)]


class LabelRule(Record, ABC):
    """The attacker's wish for triggered images."""

    @abstractmethod
    def labels(self, clean: Tensor) -> Tensor:
        """The attacker's labels for triggered images with these true labels, int64 (N,)."""

    @abstractmethod
    def classes_used(self) -> tuple[int, ...]:
        """The labels that must exist."""

    def eligible(self, clean: Tensor) -> Tensor:
        """Which images count for attack success, bool (N,)."""
        return self.labels(clean) != clean

    def poisonable(self, clean: Tensor) -> Tensor:
        """Which training images may get the trigger, bool (N,)."""
        return self.eligible(clean)

    def training_labels(self, clean: Tensor) -> Tensor:
        """The labels that poisoned training images get, int64 (N,)."""
        return self.labels(clean)

    def check(self, classes: int) -> None:
        """Refuse a rule that speaks of labels outside ``0..classes - 1``.

        Raises:
            InvalidInput: with the label that does not exist.
        """
        for label in self.classes_used():
            if label >= classes:
                raise InvalidInput(
                    f"{self} needs class {label}",
                    why=f"the data set has classes 0 to {classes - 1}",
                )


RULES: Registry[type[LabelRule]] = Registry("label rule")
"""All label rules by name."""


@RULES.register("all-to-one")
@dataclass(frozen=True, config=STRICT)
class AllToOne(LabelRule):
    """Every triggered image becomes the target class.

    Args:
        target: the attacker's class.
    """

    target: Label = 0

    def labels(self, clean: Tensor) -> Tensor:
        """The target, for every image."""
        return torch.full_like(clean, self.target)

    def classes_used(self) -> tuple[int, ...]:
        """The target."""
        return (self.target,)


@RULES.register("all-to-all")
@dataclass(frozen=True, config=STRICT)
class AllToAll(LabelRule):
    """Class c becomes class ``(c + shift) mod classes``.

    Args:
        classes: number of classes, at least 2.
        shift: distance to the wanted class; not a multiple of `classes`.
    """

    classes: Annotated[int, Field(ge=2)]
    shift: int = 1

    @model_validator(mode="after")
    def _moves(self) -> AllToAll:
        if self.shift % self.classes == 0:
            raise ValueError("a shift by a multiple of the classes changes nothing")
        return self

    def labels(self, clean: Tensor) -> Tensor:
        """The label `shift` further on."""
        return (clean + self.shift) % self.classes

    def classes_used(self) -> tuple[int, ...]:
        """The largest class."""
        return (self.classes - 1,)

    def check(self, classes: int) -> None:
        """Refuse a data set with another number of classes."""
        if classes != self.classes:
            raise InvalidInput(f"{self} does not fit", why=f"the data set has {classes} classes")


@RULES.register("source-to-target")
@dataclass(frozen=True, config=STRICT)
class SourceToTarget(LabelRule):
    """Only triggered images of the source classes become the target class.

    Args:
        sources: classes that are attacked, at least one, without the target.
        target: the attacker's class.
    """

    sources: Annotated[tuple[Label, ...], Field(min_length=1)]
    target: Label = 0

    @field_validator("sources")
    @classmethod
    def _in_order(cls, sources: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(sources)))

    @model_validator(mode="after")
    def _differ(self) -> SourceToTarget:
        if self.target in self.sources:
            raise ValueError("the target is among the sources")
        return self

    def labels(self, clean: Tensor) -> Tensor:
        """The target for the source classes; other images keep their label."""
        sources = torch.tensor(self.sources, device=clean.device)
        return torch.where(torch.isin(clean, sources), self.target, clean)

    def classes_used(self) -> tuple[int, ...]:
        """Sources and target."""
        return (*self.sources, self.target)


@RULES.register("clean-label")
@dataclass(frozen=True, config=STRICT)
class CleanLabel(LabelRule):
    """Only images of the target class are poisoned, and they keep their label.

    The attacker's hope is the same as with `AllToOne`: every triggered image becomes the target.

    Args:
        target: the attacker's class.
    """

    target: Label = 0

    def labels(self, clean: Tensor) -> Tensor:
        """The target, for every image."""
        return torch.full_like(clean, self.target)

    def classes_used(self) -> tuple[int, ...]:
        """The target."""
        return (self.target,)

    def poisonable(self, clean: Tensor) -> Tensor:
        """The target class's own images."""
        return clean == self.target

    def training_labels(self, clean: Tensor) -> Tensor:
        """The true labels."""
        return clean.clone()


def rule_to_dict(rule: LabelRule) -> dict[str, Any]:
    """A rule as JSON-ready builtins, with its registered name.

    >>> rule_to_dict(AllToOne(target=2))
    {'name': 'all-to-one', 'target': 2}
    """
    for name in RULES:
        if RULES[name] is type(rule):
            return {"name": name, **rule.to_dict()}
    raise InvalidInput(
        f"{type(rule).__name__} is not a registered label rule",
        remedy="register the class in doorward.triggers.RULES",
    )


def rule_from_dict(content: Mapping[str, Any]) -> LabelRule:
    """The rule that `rule_to_dict` described.

    Raises:
        InvalidInput: the name or an option is unknown.
    """
    options = dict(content)
    return RULES[str(options.pop("name", None))].from_dict(options)
