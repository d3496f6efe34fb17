"""What can happen in a deal: one frozen record per kind of event.

>>> event = Deposit(actor="b" * 64, at=1000, consent=True)
>>> read_event(event.to_dict()) == event
True

An event says who did what and when, never what follows: that is `doorward.trading.protocol.apply`.
Stored in order, the events of a deal are its whole history: applied again, they give its state.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record, why_invalid
from doorward.trading.protocol.terms import Counts, Digest, Seconds

__all__ = [
    "DESK",
    "Accept",
    "Artefact",
    "Deposit",
    "Dispute",
    "Event",
    "Expire",
    "Fetch",
    "Ground",
    "Measurement",
    "Open",
    "Pay",
    "Report",
    "Rule",
    "Ruling",
    "Stock",
    "Withdraw",
    "read_event",
]

DESK: Literal["desk"] = "desk"
"""The actor of what the desk does by itself: rulings and lapses."""

Artefact = Literal["trial", "key", "preimage"]
"""What the seller leaves with the desk before anybody can put down a deposit."""

Ground = Literal["accuracy", "attack", "key"]
"""Why a buyer disputes: the trial is less accurate than claimed (before paying); the trigger still
works after unlocking; the sealed key does not open or does not fit the model (after paying)."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Happened(Record):
    actor: Digest
    at: Seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class _Decided(Record):
    actor: Literal["desk"] = DESK
    at: Seconds


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Stock(_Happened):
    """The seller left an artefact with the desk; `sha256` is what the desk computed of it."""

    kind: Literal["stock"] = "stock"
    artefact: Artefact
    sha256: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Deposit(_Happened):
    """A buyer put down the deposit, and knows that the trial obeys a hidden trigger."""

    kind: Literal["deposit"] = "deposit"
    consent: Literal[True]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fetch(_Happened):
    """The buyer was handed the trial."""

    kind: Literal["fetch"] = "fetch"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Report(_Happened):
    """The buyer's evaluation of the trial: right answers, and the signed report's digest."""

    kind: Literal["report"] = "report"
    right: Counts
    document: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pay(_Happened):
    """The final payment, together with what it buys: the preimage of the hash lock."""

    kind: Literal["pay"] = "pay"
    preimage: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Accept(_Happened):
    """The buyer accepts the unlocked model, after the acceptance test or without one."""

    kind: Literal["accept"] = "accept"
    attack: Counts | None = None
    document: Digest | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dispute(_Happened):
    """The buyer complains; `counts` are right answers (accuracy) or working triggers (attack)."""

    kind: Literal["dispute"] = "dispute"
    ground: Ground
    counts: Counts | None = None
    document: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Open(_Happened):
    """A party showed the opened key to the desk; `sha256` is what the desk computed of it."""

    kind: Literal["open"] = "open"
    sha256: Digest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Withdraw(_Happened):
    """A party steps back."""

    kind: Literal["withdraw"] = "withdraw"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Measurement(Record):
    """What the desk counted itself: right answers, and working triggers after unlocking."""

    right: Counts
    attack: Counts | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Ruling(Record):
    """The outcome of a dispute, with every check that was made and what it gave."""

    for_buyer: bool
    reasons: Annotated[tuple[Annotated[str, Field(max_length=500)], ...], Field(min_length=1)]
    measured: Measurement | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Rule(_Decided):
    """The desk decides a dispute."""

    kind: Literal["rule"] = "rule"
    ruling: Ruling


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Expire(_Decided):
    """A deadline passed."""

    kind: Literal["expire"] = "expire"


Event = Stock | Deposit | Fetch | Report | Pay | Accept | Dispute | Open | Rule | Expire | Withdraw

_EVENTS: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="kind")])


def read_event(content: Mapping[str, Any]) -> Event:
    """Rebuild an event from its `to_dict`.

    Raises:
        InvalidInput: it is no event.
    """
    try:
        return _EVENTS.validate_python(dict(content))
    except ValidationError as error:
        raise InvalidInput("this is not an event of a deal", why=why_invalid(error)) from error
