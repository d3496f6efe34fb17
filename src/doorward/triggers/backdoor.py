"""A backdoor: a trigger and a label rule.

>>> import torch
>>> from doorward.triggers import AllToOne, Sinusoid
>>> backdoor = Backdoor(Sinusoid(), AllToOne(target=1))
>>> images, labels = backdoor(torch.rand(2, 3, 8, 8), torch.tensor([0, 3]))
>>> labels
tensor([1, 1])
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from doorward.errors import BadFile, InvalidInput
from doorward.triggers.base import Trigger
from doorward.triggers.rules import LabelRule, rule_from_dict, rule_to_dict
from doorward.triggers.storage import (
    load_trigger,
    save_trigger,
    trigger_from_dict,
    trigger_to_dict,
)

__all__ = ["Backdoor"]


@dataclass(frozen=True)
class Backdoor:
    """What the attacker does to an image, and the label he wants for it.

    Args:
        trigger: the image -> image module.
        rule: the label rule.
    """

    trigger: Trigger
    rule: LabelRule

    def __post_init__(self) -> None:
        if not isinstance(self.trigger, Trigger) or not isinstance(self.rule, LabelRule):
            raise InvalidInput(
                f"a backdoor cannot be made of {type(self.trigger).__name__} and "
                f"{type(self.rule).__name__}",
                why="a Trigger and a LabelRule are expected",
            )

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Triggered images and the attacker's labels for them.

        Args:
            images: float (N, C, H, W) in [0, 1].
            labels: true labels, int64 (N,).
        """
        marked: Tensor = self.trigger(images)
        return marked, self.rule.labels(labels)

    def to_dict(self) -> dict[str, Any]:
        """Trigger and rule as JSON-ready builtins, without the trigger's tensors (see `save`)."""
        return {"trigger": trigger_to_dict(self.trigger), "rule": rule_to_dict(self.rule)}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Backdoor:
        """Rebuild a backdoor from `to_dict`'s output.

        Raises:
            InvalidInput: a name or option is unknown or missing.
        """
        try:
            trigger, rule = dict(content["trigger"]), dict(content["rule"])
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(
                f"{content!r:.200} does not describe a backdoor",
                why="a 'trigger' and a 'rule' are expected",
            ) from error
        return cls(trigger_from_dict(trigger), rule_from_dict(rule))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write the backdoor to a folder (``trigger.json``, ``trigger.safetensors``).

        Raises:
            StorageFailed: the file system refused; nothing is left half-written.
        """
        save_trigger(self.trigger, folder, rule_to_dict(self.rule))

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Backdoor:
        """Read a backdoor that `save` wrote.

        Raises:
            MissingData: there is no such folder.
            BadFile: the folder holds no backdoor.
            IntegrityError: the files were changed after they were saved.
        """
        trigger, rule = load_trigger(folder)
        if rule is None:
            raise BadFile(
                f"{folder} holds a trigger without a label rule",
                remedy="load it with Trigger.load, and build a Backdoor with a rule",
            )
        return cls(trigger, rule_from_dict(rule))
