"""How much a victim tells: probabilities, the largest few, rounded ones, or its label alone.

>>> import torch
>>> probabilities = torch.tensor([[0.625, 0.25, 0.125]])
>>> Answers.of("top-2").limit(probabilities)
tensor([[0.6250, 0.2500, 0.0000]])
>>> Answers.of("rounded-1").limit(probabilities)
tensor([[0.6000, 0.2000, 0.1000]])
>>> Answers.of("label").limit(probabilities)
tensor([0])

A victim of our own is made to answer like a poorer service by asking it through one of these.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.models import BlackBox, as_black_box
from doorward.records import STRICT, Record

__all__ = ["Answers", "answers_of"]

_WORD = re.compile(r"(soft|label)|top-(k|\d{1,4})|rounded(?:-(\d))?")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Answers(Record):
    """What of a victim's answer is seen.

    Args:
        mode: ``"soft"`` (all probabilities), ``"label"`` (the class alone), ``"top-k"`` (the k
            largest probabilities, 0 for the others, not renormalised, as KnockoffNets' victims
            do it) or ``"rounded"`` (probabilities with few decimals).
        k: of ``"top-k"``.
        decimals: of ``"rounded"``.
    """

    mode: Literal["soft", "label", "top-k", "rounded"] = "soft"
    k: Annotated[int, Field(ge=1)] = 5
    decimals: Annotated[int, Field(ge=1, le=6)] = 2

    @classmethod
    def of(cls, given: str | Answers) -> Answers:
        """From a word: ``soft``, ``label``, ``top-5``, ``rounded-2``.

        Raises:
            InvalidInput: it is no such word.

        >>> Answers.of("top-5").k, Answers.of("rounded-3").decimals
        (5, 3)
        """
        if isinstance(given, Answers):
            return given
        word = _WORD.fullmatch(given) if isinstance(given, str) else None
        if word is None:
            raise InvalidInput(
                f"answers={given!r} is unknown",
                remedy="choose soft, label, top-5 or rounded-2 (any number of classes or decimals)",
            )
        plain, k, decimals = word.groups()
        if plain is not None:
            return cls.from_dict({"mode": plain})
        if k is not None:
            return cls.from_dict({"mode": "top-k"} | ({} if k == "k" else {"k": int(k)}))
        given_decimals = {} if decimals is None else {"decimals": int(decimals)}
        return cls.from_dict({"mode": "rounded"} | given_decimals)

    @property
    def soft(self) -> bool:
        """Whether an answer is a row of probabilities rather than a label."""
        return self.mode != "label"

    def limit(self, probabilities: Tensor) -> Tensor:
        """What is seen of `probabilities` ``(N, K)``.

        Returns:
            float ``(N, K)``, or int64 ``(N,)`` under ``"label"``. Of equal probabilities the
            class with the smaller number counts as larger.
        """
        if self.mode == "label":
            return probabilities.argmax(dim=1)
        if self.mode == "rounded":
            return torch.round(probabilities, decimals=self.decimals)
        if self.mode == "top-k" and self.k < probabilities.shape[1]:
            order = probabilities.sort(dim=1, descending=True, stable=True).indices
            return probabilities.scatter(1, order[:, self.k :], 0.0)
        return probabilities

    def ask(self, box: BlackBox, images: Tensor) -> Tensor:
        """What is seen of the answers of `box` to float images ``(N, C, H, W)`` in [0, 1].

        Raises:
            ModelUnsuitable: probabilities are wanted of a box that knows labels only.
        """
        if self.mode == "label":
            return box.labels(images)
        return self.limit(box.probabilities(images))

    def __str__(self) -> str:
        detail = {"top-k": f"top-{self.k}", "rounded": f"rounded-{self.decimals}"}
        return detail.get(self.mode, self.mode)


def answers_of(
    victim: object,
    source: ImageSource,
    answers: str | Answers = "soft",
    *,
    batch_size: int = 256,
) -> Tensor:
    """A victim's answers to every image of a set, once: what `Distillation` is given.

    Args:
        victim: anything `as_black_box` takes.
        source: images of the size that the victim takes.
        answers: how much it tells.
        batch_size: images fetched at a time.

    Returns:
        float32 ``(N, K)``, or int64 ``(N,)`` of labels, on the CPU, in the order of `source`.

    >>> from doorward.data import load
    >>> from doorward.models import create
    >>> victim = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
    >>> answers_of(victim, load("digits").sample(20, seed=0).resized(16)).shape
    torch.Size([20, 10])
    """
    box, mode = as_black_box(victim), Answers.of(answers)
    rows = torch.split(torch.arange(len(source)), batch_size)
    return torch.cat([mode.ask(box, to_pixels(source.fetch(part)[0]).cpu()) for part in rows])
