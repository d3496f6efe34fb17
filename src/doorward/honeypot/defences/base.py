"""What every defence of answers is: probabilities in, what is told out.

>>> from pydantic.dataclasses import dataclass
>>> from doorward.records import STRICT
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class Flatten(Defence):
...     "Half of the way to knowing nothing."
...     def answer(self, probabilities, images, secret):
...         return (probabilities + 1 / probabilities.shape[1]) / 2
>>> Flatten().answer(torch.tensor([[1.0, 0.0]]), torch.rand(1, 1, 8, 8), Secret(bytes(32)))
tensor([[0.7500, 0.2500]])

A `Defended` is any black box behind a defence, and a black box itself: whatever steals, verifies or
measures takes it as a victim.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from doorward.models import BlackBox, as_black_box
from doorward.randomness import Secret
from doorward.records import Record
from doorward.registry import Registry

__all__ = ["DEFENCES", "Answering", "Defence", "Defended"]

Answering = Callable[[Tensor, Tensor], Tensor]
"""From probabilities ``(N, K)`` and the images that they answer to what is told."""


class Defence(Record, ABC):
    """Base of the defences: a frozen record of parameters, and `answer`.

    A function of its arguments alone: asking again and averaging gains nothing. One that must
    remember what it was asked overrides `session` instead.
    """

    @abstractmethod
    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """What is told.

        Args:
            probabilities: float32 ``(N, K)``, rows that sum to 1.
            images: float32 ``(N, C, H, W)`` in [0, 1] that they answer.
            secret: of the client's account; whatever is drawn derives from it.

        Returns:
            float32 ``(N, K)``, finite and not negative.
        """

    def session(self, secret: Secret) -> Answering:
        """The defence for one account, which may remember its queries."""
        return lambda probabilities, images: self.answer(probabilities, images, secret)


DEFENCES: Registry[type[Defence]] = Registry("defence against model stealing")
"""By name; each entry is a record class, made with its defaults or your own values."""


class Defended:
    """A black box behind a defence, as one account sees it.

    Args:
        victim: what answers, with probabilities: anything `as_black_box` takes.
        defence: what is made of its answers.
        secret: of the account; drawn anew if None.

    >>> from doorward.models import create
    >>> model = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
    >>> box = Defended(model, DEFENCES["top-1"]())
    >>> box.probabilities(torch.rand(2, 1, 16, 16)).sum(1).tolist(), box.num_classes
    ([1.0, 1.0], 3)
    """

    def __init__(self, victim: object, defence: Defence, secret: Secret | None = None) -> None:
        self.box: BlackBox = as_black_box(victim)
        self.defence = defence
        self._answering = defence.session(secret or Secret.new())

    @property
    def num_classes(self) -> int | None:
        """That of the box."""
        return self.box.num_classes

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """That of the box, where it says one."""
        shape: tuple[int, int, int] | None = getattr(self.box, "input_shape", None)
        return shape

    def probabilities(self, images: Tensor) -> Tensor:
        """What is told of the probabilities (see `BlackBox.probabilities`)."""
        answers = self.box.probabilities(images)
        return self._answering(answers, images.detach().float().cpu()) if len(images) else answers

    def labels(self, images: Tensor) -> Tensor:
        """The largest of what is told (see `BlackBox.labels`)."""
        if not len(images):
            return torch.empty(0, dtype=torch.int64)
        return self.probabilities(images).argmax(1)

    def describe(self) -> dict[str, Any]:
        """The box, and which defence is before it; not the secret."""
        names = [name for name in DEFENCES if DEFENCES[name] is type(self.defence)]
        defence = {"name": names[0] if names else type(self.defence).__name__}
        return {**self.box.describe(), "defence": {**defence, **self.defence.to_dict()}}
