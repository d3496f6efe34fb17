"""The state of a deal, and what is true of every state.

>>> sorted(stage.value for stage in Stage if stage.final)
['expired', 'forfeited', 'refunded', 'settled', 'withdrawn']

A `Deal` is frozen; `doorward.trading.protocol.apply` makes the next one. Money is written down as
`Move`s between a party's account and the deal's escrow, in order, and only ever appended.

The invariants, which `Deal.check` verifies after every transition:

1. The escrow is never negative, and empty in every final stage.
2. The key is released if and only if the final payment was made; the preimage fits the hash lock.
3. In the end, whoever paid in has back what was not earned: of ``deposit + final`` the seller has
   all or the buyer has all, but for a forfeited deposit; the bond returns or goes to the buyer.
4. Nothing moves between two accounts that are not parties of this deal.
5. Before a deposit is taken, trial, sealed key and preimage are with the desk.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import IntegrityError, InvalidInput
from doorward.records import STRICT, Record
from doorward.trading.protocol.events import Artefact, Dispute, Report, Ruling
from doorward.trading.protocol.terms import Cents, Digest, Listing, Seconds, hash_lock

__all__ = ["ARTEFACTS", "Deal", "DealRefused", "Move", "Stage"]

ARTEFACTS: tuple[Artefact, ...] = ("trial", "key", "preimage")

Refusal = Literal["role", "stage", "late", "lock", "evidence", "money"]


class DealRefused(InvalidInput):
    """The protocol does not allow this event now; the deal stays as it was.

    Attributes:
        code: ``role`` (another party may), ``stage`` (not now), ``late`` (the deadline passed),
            ``lock`` (a digest or the preimage does not fit), ``evidence`` (the counts do not
            support it), ``money`` (not enough on the account).
    """

    code: Refusal = "stage"

    @classmethod
    def of(cls, code: Refusal, what: str, *, why: str = "", remedy: str = "") -> DealRefused:
        """Build the error with its code."""
        refused = cls(what, why=why, remedy=remedy)
        refused.code = code
        return refused


class Stage(StrEnum):
    """Where a deal stands."""

    LISTED = "listed"
    """Signed and public, but not all artefacts are with the desk."""
    STOCKED = "stocked"
    """The desk holds trial, sealed key and preimage; a buyer can put down the deposit."""
    DEPOSITED = "deposited"
    """The deposit is in escrow; the buyer may fetch the trial."""
    TRYING = "trying"
    """The buyer has the trial."""
    RELEASED = "released"
    """Paid, and the key is released; the buyer tests it."""
    DISPUTED = "disputed"
    """The buyer complained; the desk rules, or the seller's silence does."""
    SETTLED = "settled"
    """The seller has the money, the buyer has the key."""
    REFUNDED = "refunded"
    """The seller lost a dispute: the buyer has all money back, and the bond."""
    FORFEITED = "forfeited"
    """The buyer kept the trial and did not pay: the deposit is the seller's."""
    WITHDRAWN = "withdrawn"
    """The seller stepped back before the final payment; the buyer has the deposit back."""
    EXPIRED = "expired"
    """Nobody bought in time."""

    @property
    def final(self) -> bool:
        """Whether nothing can happen any more."""
        return self in _FINAL


_FINAL = {Stage.SETTLED, Stage.REFUNDED, Stage.FORFEITED, Stage.WITHDRAWN, Stage.EXPIRED}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Move(Record):
    """Money into the escrow of a deal (`hold`) or out of it (`pay`).

    Attributes:
        direction: from the account into the escrow, or back.
        account: fingerprint of the party whose account it is.
        cents: how much, at least 1.
        reason: deposit, final payment, bond, or what it is paid out as.
    """

    direction: Literal["hold", "pay"]
    account: Digest
    cents: Annotated[Cents, Field(ge=1)]
    reason: Annotated[str, Field(max_length=40)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Deal(Record):
    """One copy of one model on its way from seller to buyer.

    Attributes:
        listing: the offer; its digest is the name of the deal.
        stage: where it stands.
        at: when the last event happened.
        due: when the deadline of this stage passes; None: none runs.
        buyer: who put down the deposit.
        stocked: what the desk holds.
        moves: all money moved so far, in order.
        report: the buyer's evaluation of the trial.
        preimage: hex, once released.
        complaint: the last dispute.
        opening: whether the opened key was shown to the desk, and fitted the listing.
        ruling: the outcome of the last dispute that was decided.
    """

    listing: Listing
    stage: Stage = Stage.LISTED
    at: Seconds
    due: Seconds | None
    buyer: Digest | None = None
    stocked: tuple[Artefact, ...] = ()
    moves: tuple[Move, ...] = ()
    report: Report | None = None
    preimage: Digest | None = None
    complaint: Dispute | None = None
    opening: bool = False
    ruling: Ruling | None = None

    @classmethod
    def new(cls, listing: Listing, *, at: int) -> Deal:
        """The deal that a listing opens.

        Raises:
            DealRefused: the offer has lapsed already.
        """
        if at >= listing.terms.offered_until:
            raise DealRefused.of(
                "late", "the offer has lapsed already", remedy="list it with a later deadline"
            )
        return cls(listing=listing, at=at, due=listing.terms.offered_until)

    @property
    def id(self) -> str:
        """The digest of the listing."""
        return self.listing.digest()

    @property
    def seller(self) -> str:
        """Fingerprint of the seller."""
        return self.listing.seller

    @property
    def escrow(self) -> int:
        """Cents held for this deal."""
        return sum(m.cents if m.direction == "hold" else -m.cents for m in self.moves)

    @property
    def released(self) -> bool:
        """Whether the buyer may have the key."""
        return self.preimage is not None

    def net(self, account: str) -> int:
        """What `account` has gained (or lost, if negative) by this deal so far, in cents."""
        signs = {"hold": -1, "pay": 1}
        return sum(signs[m.direction] * m.cents for m in self.moves if m.account == account)

    def check(self) -> None:
        """Verify the invariants (see the module).

        Raises:
            IntegrityError: one is broken; the message says which.
        """
        terms = self.listing.terms
        paid = sum(m.cents for m in self.moves if m.reason == "final payment")
        holders = {m.account for m in self.moves if m.direction == "hold"}
        accounts = {m.account for m in self.moves}
        gains = (self.net(self.seller), self.net(self.buyer) if self.buyer else 0)
        price = terms.deposit + terms.final
        ends = {
            Stage.SETTLED: (price, -price),
            Stage.FORFEITED: (terms.deposit, -terms.deposit),
            Stage.REFUNDED: (-terms.bond, terms.bond),
        }.get(self.stage, (0, 0))
        broken = {
            "the escrow is overdrawn": self.escrow < 0,
            "money is left in escrow": self.stage.final and self.escrow != 0,
            "key and final payment are apart": paid != (terms.final if self.released else 0),
            "the preimage does not fit the lock": self.preimage is not None
            and hash_lock(bytes.fromhex(self.preimage)) != self.listing.lock,
            "the outcome is not what the terms say": self.stage.final and gains != ends,
            "money went to a stranger": not accounts <= holders | {self.seller},
            "an earlier buyer gained or lost": any(
                self.net(account) for account in accounts - {self.seller, self.buyer}
            ),
            "a deposit without goods": self.buyer is not None
            and set(self.stocked) != set(ARTEFACTS),
        }
        for what, wrong in broken.items():
            if wrong:
                raise IntegrityError(
                    f"the deal {self.id[:16]} is inconsistent", why=what, remedy="stop the desk"
                )
