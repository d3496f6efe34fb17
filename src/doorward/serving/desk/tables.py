"""The desk's tables, as SQLAlchemy sees them; the migrations make them.

===========  ======================================================================
accounts     identities that may act, by fingerprint
balances     cents per ledger account; the database itself refuses an overdraft
transfers    what was posted, by key; ``entries`` are its lines, which sum to zero
deals        one row per deal: the signed listing, and the state after the last event
events       the history of every deal, in order; it gives the state
artefacts    what the desk holds of a deal; secrets are sealed with the custody key
documents    signed reports, as they came
nonces       requests seen, so that none counts twice
audit        the hash-chained log
visits       sessions of the read-only pages
===========  ======================================================================
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = [
    "AccountRow",
    "ArtefactRow",
    "AuditRow",
    "BalanceRow",
    "Base",
    "DealRow",
    "DocumentRow",
    "EntryRow",
    "EventRow",
    "NonceRow",
    "TransferRow",
    "VisitRow",
]


class Base(DeclarativeBase):
    """All tables of the desk; names carry a prefix, so that services can share a database."""


class AccountRow(Base):
    """An identity that may act."""

    __tablename__ = "desk_accounts"
    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    name: Mapped[str] = mapped_column(String(200))
    public: Mapped[str] = mapped_column(Text)
    created: Mapped[int] = mapped_column(BigInteger)


class BalanceRow(Base):
    """Cents on a ledger account: the sum of its entries."""

    __tablename__ = "desk_balances"
    __table_args__ = (CheckConstraint("cents >= 0 OR account = 'outside'", name="no_overdraft"),)
    account: Mapped[str] = mapped_column(String(80), primary_key=True)
    cents: Mapped[int] = mapped_column(BigInteger)


class TransferRow(Base):
    """A transfer that was posted; its key makes it count once."""

    __tablename__ = "desk_transfers"
    key: Mapped[str] = mapped_column(String(200), primary_key=True)
    reason: Mapped[str] = mapped_column(String(200))
    at: Mapped[int] = mapped_column(BigInteger)


class EntryRow(Base):
    """One line of a transfer."""

    __tablename__ = "desk_entries"
    transfer: Mapped[str] = mapped_column(ForeignKey("desk_transfers.key"), primary_key=True)
    account: Mapped[str] = mapped_column(String(80), primary_key=True, index=True)
    cents: Mapped[int] = mapped_column(BigInteger)


class DealRow(Base):
    """A deal as it stands."""

    __tablename__ = "desk_deals"
    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    seller: Mapped[str] = mapped_column(ForeignKey("desk_accounts.fingerprint"), index=True)
    buyer: Mapped[str | None] = mapped_column(ForeignKey("desk_accounts.fingerprint"), index=True)
    stage: Mapped[str] = mapped_column(String(20), index=True)
    due: Mapped[int | None] = mapped_column(BigInteger, index=True)
    created: Mapped[int] = mapped_column(BigInteger)
    events: Mapped[int] = mapped_column(Integer)
    listing: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(Text)


class EventRow(Base):
    """One event of a deal."""

    __tablename__ = "desk_events"
    deal: Mapped[str] = mapped_column(ForeignKey("desk_deals.id"), primary_key=True)
    number: Mapped[int] = mapped_column(Integer, primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class ArtefactRow(Base):
    """Something the desk holds; `sealed` is empty for the trial, which lies in a file."""

    __tablename__ = "desk_artefacts"
    deal: Mapped[str] = mapped_column(ForeignKey("desk_deals.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(20), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64))
    size: Mapped[int] = mapped_column(BigInteger)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary)


class DocumentRow(Base):
    """A signed report."""

    __tablename__ = "desk_documents"
    deal: Mapped[str] = mapped_column(ForeignKey("desk_deals.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    content: Mapped[str] = mapped_column(Text)


class NonceRow(Base):
    """A request that was seen."""

    __tablename__ = "desk_nonces"
    account: Mapped[str] = mapped_column(String(64), primary_key=True)
    nonce: Mapped[str] = mapped_column(String(32), primary_key=True)
    expires: Mapped[int] = mapped_column(BigInteger, index=True)


class AuditRow(Base):
    """One link of the hash-chained log."""

    __tablename__ = "desk_audit"
    __table_args__ = (Index("desk_audit_subject", "subject"),)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    at: Mapped[int] = mapped_column(BigInteger)
    actor: Mapped[str] = mapped_column(String(64))
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(64))
    content: Mapped[str] = mapped_column(Text)
    previous: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))


class VisitRow(Base):
    """A session of the read-only pages, by the hash of its token."""

    __tablename__ = "desk_visits"
    token: Mapped[str] = mapped_column(String(64), primary_key=True)
    account: Mapped[str] = mapped_column(ForeignKey("desk_accounts.fingerprint"))
    expires: Mapped[int] = mapped_column(BigInteger, index=True)
    entered: Mapped[bool] = mapped_column(default=False)
