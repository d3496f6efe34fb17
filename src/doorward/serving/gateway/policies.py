"""How a tenant is answered: by which graph, and what is made of its probabilities.

>>> from doorward.randomness import Secret
>>> secret = Secret(bytes(32))
>>> POLICIES["clean"].head("ada", 3, secret), POLICIES["honeypot"].head("ada", 3, secret)
(None, ...)
>>> POLICIES["label-only"].answer(np.array([[0.2, 0.8]], np.float32), None, "ada", secret)
array([[0., 1.]], dtype=float32)

A policy is a function of its arguments alone: the same image gets the same answer from it as often
as a tenant asks, so asking again and averaging gains nothing. Those of
`doorward.honeypot.defences` that fit stand here under their names: `rounding`, `reverse-sigmoid`,
`adaptive-misinformation`, `dawn`. To add one, register it:

    @POLICIES.register("mine")
    class Mine: ...
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from doorward.errors import InvalidInput
from doorward.honeypot.defences import DEFENCES, Defence
from doorward.randomness import Secret
from doorward.registry import Registry

__all__ = ["POLICIES", "AnswerPolicy"]

Floats = NDArray[np.float32]


class AnswerPolicy(Protocol):
    """How a tenant is answered while it is at a stage."""

    def head(self, account: str, honeypots: int, secret: Secret) -> int | None:
        """Which graph answers.

        Args:
            account: the tenant's, or that of its group.
            honeypots: how many honeypot graphs there are; may be 0.
            secret: the gateway's.

        Returns:
            The number of a honeypot, or None for the clean graph.
        """

    def answer(
        self, probabilities: Floats, images: Floats | None, account: str, secret: Secret
    ) -> Floats:
        """What the tenant's answers are made of.

        Args:
            probabilities: float32 ``(N, K)`` of the chosen graph.
            images: float32 ``(N, C, H, W)`` that they answer.
            account: as for `head`.
            secret: as for `head`.

        Returns:
            float32 ``(N, K)``.
        """


POLICIES: Registry[AnswerPolicy] = Registry("answer policy")


class _Clean:
    """The clean graph's probabilities as they are."""

    def head(self, account: str, honeypots: int, secret: Secret) -> int | None:
        return None

    def answer(
        self, probabilities: Floats, images: Floats | None, account: str, secret: Secret
    ) -> Floats:
        return probabilities


class _Honeypot(_Clean):
    """The probabilities of one honeypot graph, chosen for the account by the gateway's secret."""

    def head(self, account: str, honeypots: int, secret: Secret) -> int | None:
        if not honeypots:
            return None
        return secret.derive("honeypot head").integer(account.encode(), honeypots)


class _Defending(_Clean):
    """The clean graph's probabilities behind a defence that remembers nothing.

    Args:
        defence: what is made of them, under a secret of the account's own.
    """

    def __init__(self, defence: Defence) -> None:
        self._defence = defence

    def answer(
        self, probabilities: Floats, images: Floats | None, account: str, secret: Secret
    ) -> Floats:
        if images is None:
            raise InvalidInput("there are no images", why="a defence may look at them")
        told = self._defence.answer(
            torch.from_numpy(np.ascontiguousarray(probabilities)),
            torch.from_numpy(np.ascontiguousarray(images)),
            secret.derive(f"defence {account}"),
        )
        return told.numpy()


class _LabelOnly(_Honeypot):
    """All probability on the largest class, of the graph that `honeypot` would take."""

    def answer(
        self, probabilities: Floats, images: Floats | None, account: str, secret: Secret
    ) -> Floats:
        certain = np.zeros_like(probabilities)
        certain[np.arange(len(certain)), probabilities.argmax(1)] = 1
        return certain


POLICIES.register("clean")(_Clean())
POLICIES.register("honeypot")(_Honeypot())
POLICIES.register("label-only")(_LabelOnly())
for _name in DEFENCES:
    if DEFENCES.facts(_name)["gateway"]:
        POLICIES.register(_name)(_Defending(DEFENCES[_name]()))
