"""The ledger in the desk's database: what `doorward.trading.protocol.Ledger` says, in SQL.

::

    with database.writing() as session:
        post(session, Transfer.between("top-up/1", OUTSIDE, account_of(ada), 500, "cash"), at=now)
    with database.reading() as session:
        balance(session, account_of(ada)), audit_books(session)

A transfer, its lines and the balances change in the caller's transaction. The table of balances
refuses an overdraft by itself: not even a fault in this file spends money that is not there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from doorward.errors import IntegrityError
from doorward.serving.desk.tables import BalanceRow, EntryRow, TransferRow
from doorward.trading.protocol import OUTSIDE, Transfer
from doorward.trading.protocol.ledger import not_enough

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["audit_books", "balance", "post", "statement"]


def post(session: Session, transfer: Transfer, *, at: int) -> bool:
    """Post a transfer, once.

    Args:
        session: a writing session; the caller commits.
        transfer: what moves.
        at: seconds since 1970.

    Returns:
        Whether it was new. The same transfer under the same key again changes nothing.

    Raises:
        DealRefused: an account would be overdrawn (code ``money``).
        IntegrityError: another transfer was posted under its key.
    """
    if session.get(TransferRow, transfer.key) is not None:
        if _entries(session, transfer.key) != {e.account: e.cents for e in transfer.entries}:
            raise IntegrityError(
                f"the key {transfer.key} was used for another transfer",
                remedy="use a fresh key for a new payment",
            )
        return False
    session.add(TransferRow(key=transfer.key, reason=transfer.reason, at=at))
    session.flush()
    for entry in sorted(transfer.entries, key=lambda entry: entry.account):
        row = session.get(BalanceRow, entry.account)
        held = row.cents if row else 0
        if held + entry.cents < 0 and entry.account != OUTSIDE:
            raise not_enough(entry.account, held, -entry.cents)
        if row is None:
            session.add(BalanceRow(account=entry.account, cents=entry.cents))
        else:
            row.cents = held + entry.cents
        session.add(EntryRow(transfer=transfer.key, account=entry.account, cents=entry.cents))
    session.flush()
    return True


def balance(session: Session, account: str) -> int:
    """Cents on a ledger account."""
    row = session.get(BalanceRow, account)
    return row.cents if row else 0


def statement(session: Session, account: str, *, limit: int = 100) -> list[dict[str, Any]]:
    """The last lines of an account, newest first."""
    query = (
        select(TransferRow.key, TransferRow.reason, TransferRow.at, EntryRow.cents)
        .join(EntryRow, EntryRow.transfer == TransferRow.key)
        .where(EntryRow.account == account)
        .order_by(TransferRow.at.desc(), TransferRow.key.desc())
        .limit(limit)
    )
    return [dict(row._mapping) for row in session.execute(query)]


def audit_books(session: Session) -> dict[str, int]:
    """Check the whole ledger, and give all balances.

    Raises:
        IntegrityError: a transfer does not sum to zero, a balance is not the sum of its lines, or
            an account is overdrawn.
    """
    balances = {row.account: row.cents for row in session.scalars(select(BalanceRow))}
    summed = session.execute(
        select(EntryRow.account, func.sum(EntryRow.cents)).group_by(EntryRow.account)
    )
    sums = {account: int(cents) for account, cents in summed}
    open_transfers = session.execute(
        select(EntryRow.transfer)
        .group_by(EntryRow.transfer)
        .having(func.sum(EntryRow.cents) != 0)
        .limit(1)
    ).first()
    overdrawn = [name for name, cents in balances.items() if cents < 0 and name != OUTSIDE]
    if open_transfers or overdrawn or sums != balances or sum(balances.values()) != 0:
        raise IntegrityError(
            "the books do not balance",
            why=f"{overdrawn or open_transfers or 'a balance is not the sum of its lines'}",
            remedy="stop the desk, and compare with a backup",
        )
    return balances


def _entries(session: Session, key: str) -> dict[str, int]:
    rows = session.scalars(select(EntryRow).where(EntryRow.transfer == key))
    return {row.account: row.cents for row in rows}
