"""Money, in double entry: what leaves one account arrives at another, to the cent.

>>> ledger = Ledger().post(Transfer.between("t1", "outside", "account/ada", 500, "top-up"))
>>> ledger.balance("account/ada"), ledger.total()
(500, 0)
>>> ledger.post(Transfer.between("t2", "account/ada", "escrow/deal", 501, "deposit"))
Traceback (most recent call last):
doorward.trading.protocol.deal.DealRefused: account/ada holds 500 cents, needed are 501. Put ...

A transfer has a key: posted twice, it counts once; another transfer under a used key is refused.
Only ``outside``, the world beyond the desk, may be negative: it is minus all money the desk holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import IntegrityError, InvalidInput
from doorward.records import STRICT, Record
from doorward.trading.protocol.deal import DealRefused, Move

__all__ = [
    "OUTSIDE",
    "Entry",
    "Ledger",
    "Transfer",
    "account_of",
    "escrow_of",
    "not_enough",
    "transfers_of",
]

OUTSIDE = "outside"
"""The account of the world: banks, cash, the provider of payments."""

AccountName = Annotated[str, Field(pattern=r"^(outside|(account|escrow)/[a-z0-9]{1,64})$")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Entry(Record):
    """One line: an account, and what it gains (or loses, if negative)."""

    account: AccountName
    cents: Annotated[int, Field(strict=True)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Transfer(Record):
    """Lines that sum to zero, posted together under one key.

    Raises:
        InvalidInput: the lines do not balance, or an account occurs twice.
    """

    key: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(max_length=200)]
    entries: Annotated[tuple[Entry, ...], Field(min_length=2)]

    def __post_init__(self) -> None:
        if sum(entry.cents for entry in self.entries) != 0:
            raise InvalidInput(f"the transfer {self.key} does not balance")
        if len({entry.account for entry in self.entries}) != len(self.entries):
            raise InvalidInput(f"the transfer {self.key} names an account twice")

    @classmethod
    def between(cls, key: str, source: str, target: str, cents: int, reason: str) -> Transfer:
        """Move `cents` (at least 1) from `source` to `target`."""
        if cents < 1:
            raise InvalidInput(f"a transfer of {cents} cents", why="at least 1 cent moves")
        entries = (Entry(account=source, cents=-cents), Entry(account=target, cents=cents))
        return cls(key=key, reason=reason, entries=entries)


def account_of(fingerprint: str) -> str:
    """Name of the prepaid account of an identity."""
    return f"account/{fingerprint}"


def escrow_of(deal: str) -> str:
    """Name of the escrow of a deal."""
    return f"escrow/{deal}"


def transfers_of(deal: str, moves: Sequence[Move], *, first: int) -> tuple[Transfer, ...]:
    """The transfers that carry out moves of a deal.

    Args:
        deal: its id.
        moves: see `doorward.trading.protocol.new_moves`.
        first: index of the first of them in the deal's history, which makes the keys unique.
    """
    made = []
    for number, move in enumerate(moves, first):
        pair = account_of(move.account), escrow_of(deal)
        source, target = pair if move.direction == "hold" else pair[::-1]
        key = f"deal/{deal}/{number}"
        made.append(Transfer.between(key, source, target, move.cents, move.reason))
    return tuple(made)


class Ledger:
    """Balances and the transfers behind them; `post` gives a new ledger.

    This one lives in memory: it states what the ledger in the desk's database must do, and tests
    hold the two side by side.
    """

    def __init__(
        self,
        balances: Mapping[str, int] = MappingProxyType({}),
        posted: Mapping[str, Transfer] = MappingProxyType({}),
    ) -> None:
        self.balances, self.posted = (
            MappingProxyType(dict(balances)),
            MappingProxyType(dict(posted)),
        )

    def post(self, *transfers: Transfer) -> Ledger:
        """The ledger after all of `transfers`, or none.

        Raises:
            DealRefused: an account other than ``outside`` would be overdrawn (code ``money``).
            IntegrityError: another transfer was posted under one of the keys.
        """
        balances, posted = dict(self.balances), dict(self.posted)
        for transfer in transfers:
            if transfer.key in posted:
                if posted[transfer.key] != transfer:
                    raise IntegrityError(f"the key {transfer.key} was used for another transfer")
                continue
            for entry in transfer.entries:
                held = balances.get(entry.account, 0)
                if held + entry.cents < 0 and entry.account != OUTSIDE:
                    raise not_enough(entry.account, held, -entry.cents)
                balances[entry.account] = held + entry.cents
            posted[transfer.key] = transfer
        return Ledger(balances, posted)

    def balance(self, account: str) -> int:
        """Cents on an account; 0 if it was never used."""
        return self.balances.get(account, 0)

    def total(self) -> int:
        """The sum over all accounts: always 0."""
        return sum(self.balances.values())


def not_enough(account: str, held: int, needed: int) -> DealRefused:
    """The refusal of a transfer that an account cannot pay."""
    return DealRefused.of(
        "money",
        f"{account} holds {held} cents, needed are {needed}",
        remedy="put money on the account first",
    )
