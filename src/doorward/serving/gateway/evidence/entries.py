"""What is handed to the evidence log, and what comes back.

>>> Entry("ada", "ada", 1, {}, b"", b"", budget=5).moves
()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Account", "Entry", "Move", "Outcome"]


@dataclass(frozen=True)
class Account:
    """What is kept of an account: images asked about, and the stage on the ladder."""

    used: int = 0
    stage: int = 0


@dataclass(frozen=True)
class Move:
    """A monitor's wish to move an account up, and why (JSON-ready)."""

    stage: int
    reason: Mapping[str, Any]


@dataclass(frozen=True)
class Entry:
    """An answer that is to be written down before it is sent.

    Args:
        tenant: name.
        account: the tenant's, or its group's.
        count: images.
        facts: what answered, JSON-ready.
        queries: salted hashes of the images.
        answers: salted hashes of the answers.
        budget: of the account, in images; None for any number.
        start: the stage at which the tenant begins.
        moves: what the monitors made of it.
    """

    tenant: str
    account: str
    count: int
    facts: Mapping[str, Any]
    queries: bytes
    answers: bytes
    budget: int | None = None
    start: int = 0
    moves: tuple[Move, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of an entry: whether it was written and charged, and the account after it."""

    accepted: bool
    used: int
    stage: int
