"""Where deals live: one row with the state, one per event, and the one way to change them.

::

    desk.store.act(actor, deal, lambda session, current, at: Withdraw(actor=..., at=at))

`act` lets a deadline that has passed take effect first, then applies one event and writes state,
history, ledger and log in one transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, select

from doorward.errors import IntegrityError, MissingData
from doorward.files import canonical_json
from doorward.serving.desk import books
from doorward.serving.desk.tables import ArtefactRow, DealRow, DocumentRow, EventRow
from doorward.trading.protocol import (
    Deal,
    Event,
    Expire,
    Stage,
    apply,
    document_digest,
    escrow_of,
    new_moves,
    read_event,
    transfers_of,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from doorward.serving.desk.desk import Desk

__all__ = ["Make", "Store", "as_text", "state_in"]

Make = Callable[["Session", Deal, int], Event]
"""Makes the event to apply, from the session, the deal as it stands, and the time."""


class Store:
    """The deals in the database of a desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def state(self, deal: str) -> Deal:
        """A deal as it stands, after any deadline that has passed.

        Raises:
            MissingData: there is no such deal.
        """
        self.lapse(deal)
        with self._desk.database.reading() as session:
            return state_in(_row(session, deal))

    def deals_of(self, fingerprint: str) -> list[Deal]:
        """The deals of a seller or buyer, newest first."""
        mine = (DealRow.seller == fingerprint) | (DealRow.buyer == fingerprint)
        return self._select(mine, limit=1000)

    def offers(self, *, limit: int, before: int | None = None) -> list[Deal]:
        """What can be bought now, newest first.

        Args:
            limit: how many at most.
            before: only those listed before this time.
        """
        now = self._desk.now()
        wanted = (DealRow.stage == Stage.STOCKED.value) & (DealRow.due > now)
        if before is not None:
            wanted &= DealRow.created < before
        return self._select(wanted, limit=limit)

    def listing(self, deal: str) -> dict[str, Any]:
        """The signed listing of a deal, as it came."""
        with self._desk.database.reading() as session:
            document: dict[str, Any] = json.loads(_row(session, deal).listing)
        return document

    def document(self, deal: str, sha256: str) -> dict[str, Any]:
        """A signed report, as it came."""
        with self._desk.database.reading() as session:
            row = session.get(DocumentRow, (deal, sha256))
        if row is None:
            raise MissingData(f"there is no document {sha256[:16]} of this deal")
        document: dict[str, Any] = json.loads(row.content)
        return document

    def history(self, deal: str) -> list[Event]:
        """The events of a deal, in order."""
        with self._desk.database.reading() as session:
            return _history(session, deal)

    def held(self, deal: str, kind: str) -> bytes:
        """A secret the desk holds of a deal: key, preimage or opening. The caller checks who asks.

        Raises:
            MissingData: the desk does not hold it.
        """
        with self._desk.database.reading() as session:
            return self.secret(session, deal, kind)

    def secret(self, session: Session, deal: str, kind: str) -> bytes:
        """As `held`, in the caller's session."""
        row = session.get(ArtefactRow, (deal, kind))
        if row is None or row.sealed is None:
            raise MissingData(f"the desk holds no {kind} of this deal")
        return self._desk.custody.unseal(f"{deal}/{kind}", row.sealed)

    def act(self, deal: str, make: Make, *, evidence: Mapping[str, Any]) -> Deal:
        """Apply one event (see the module).

        Raises:
            MissingData: there is no such deal.
            DealRefused: the protocol does not allow it; only a lapse may have been written.
        """
        self.lapse(deal)
        with self._desk.writing() as session:
            row = _row(session, deal)
            current = state_in(row)
            # A clock that was set back must not stop a deal.
            event = make(session, current, max(self._desk.now(), current.at))
            return self._advance(session, row, current, event, evidence)

    def lapse(self, deal: str) -> bool:
        """Let deadlines of a deal that have passed take effect; whether one had."""
        with self._desk.database.reading() as session:
            due = _row(session, deal).due
        if due is None or due > self._desk.now():
            return False
        with self._desk.writing() as session:
            row, now = _row(session, deal), self._desk.now()
            while row.due is not None and row.due <= now:
                current = state_in(row)
                event = Expire(at=max(now, current.at))
                self._advance(session, row, current, event, {})
        return True

    def lapse_all(self) -> int:
        """Let all passed deadlines take effect; how many deals changed."""
        with self._desk.database.reading() as session:
            due = list(session.scalars(select(DealRow.id).where(DealRow.due <= self._desk.now())))
        return sum(self.lapse(deal) for deal in due)

    def keep_document(self, session: Session, deal: str, document: Mapping[str, Any]) -> str:
        """Store a signed report in the caller's transaction; its digest."""
        sha256 = document_digest(document)
        if session.get(DocumentRow, (deal, sha256)) is None:
            session.add(DocumentRow(deal=deal, sha256=sha256, content=as_text(document)))
        return sha256

    def verify(self, session: Session, balances: Mapping[str, int]) -> None:
        """Check that every deal follows from its events, and its money is where it says.

        Raises:
            IntegrityError: one does not.
        """
        for row in session.scalars(select(DealRow)):
            state = state_in(row)
            deal = Deal.new(state.listing, at=row.created)
            for event in _history(session, row.id):
                deal = apply(deal, event)
            same = deal == state and row.id == state.id
            columns = (row.stage, row.due, row.buyer, row.seller)
            told = (state.stage.value, state.due, state.buyer, state.seller)
            held = balances.get(escrow_of(row.id), 0) == state.escrow
            kept = {
                kind for (kind,) in session.execute(
                    select(ArtefactRow.kind).where(ArtefactRow.deal == row.id)
                )
            }  # fmt: skip
            goods = (
                kept - {"opening"} == set(state.stocked) and ("opening" in kept) == state.opening
            )
            if not (same and columns == told and held and goods):
                raise IntegrityError(
                    f"the deal {row.id[:16]} does not follow from its events",
                    remedy="stop the desk, and compare with a backup",
                )

    def _advance(
        self,
        session: Session,
        row: DealRow,
        current: Deal,
        event: Event,
        evidence: Mapping[str, Any],
    ) -> Deal:
        after = apply(current, event)
        moves = new_moves(current, after)
        for transfer in transfers_of(after.id, moves, first=len(current.moves)):
            books.post(session, transfer, at=event.at)
        session.add(EventRow(deal=row.id, number=row.events, content=as_text(event.to_dict())))
        row.events += 1
        row.state, row.stage = as_text(after.to_dict()), after.stage.value
        row.due, row.buyer = after.due, after.buyer
        session.flush()
        content = {"event": event.to_dict(), "state": after.digest(), "request": dict(evidence)}
        self._desk.log(session, event.actor, event.kind, row.id, content)
        return after

    def _select(self, wanted: ColumnElement[bool], *, limit: int) -> list[Deal]:
        query = select(DealRow).where(wanted).order_by(DealRow.created.desc(), DealRow.id)
        with self._desk.database.reading() as session:
            return [state_in(row) for row in session.scalars(query.limit(limit))]


def state_in(row: DealRow) -> Deal:
    """The state in a row."""
    return Deal.from_dict(json.loads(row.state))


def as_text(content: Mapping[str, Any]) -> str:
    """Canonical JSON, as it is stored."""
    return canonical_json(content).decode()


def _row(session: Session, deal: str) -> DealRow:
    row = session.get(DealRow, deal)
    if row is None:
        raise MissingData(f"there is no deal {deal[:16]} at this desk")
    return row


def _history(session: Session, deal: str) -> list[Event]:
    query = select(EventRow.content).where(EventRow.deal == deal).order_by(EventRow.number)
    return [read_event(json.loads(content)) for content in session.scalars(query)]
