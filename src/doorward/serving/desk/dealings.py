"""Deals at the desk: every step loads the state, applies the protocol, and writes all that follows.

::

    deal = desk.deals.offer(ada, document)
    desk.deals.stock(ada, deal.id, "trial", path, sha256=digest, size=size)      # and key, preimage
    desk.deals.deposit(bob, deal.id)
    path = desk.deals.goods(bob, deal.id, "trial")
    desk.deals.pay(bob, deal.id)                       # money held and key released, or neither

State, event, transfers and the line of the log are written in one transaction; what was sent
(trials) lies on the disk before the row that mentions it is committed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import func, select

from doorward.errors import IntegrityError, InvalidInput
from doorward.serving.desk.refusals import NotYours
from doorward.serving.desk.store import Make, as_text, state_in
from doorward.serving.desk.tables import ArtefactRow, DealRow
from doorward.trading.protocol import (
    Accept,
    Deal,
    DealRefused,
    Deposit,
    Dispute,
    Event,
    Fetch,
    Finding,
    Open,
    Pay,
    Report,
    Stage,
    Stock,
    Withdraw,
    apply,
    check_listing,
    check_report,
)
from doorward.trading.protocol.events import Artefact

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from doorward.serving.desk.desk import Actor, Desk

__all__ = ["Dealings", "Goods"]

Goods = Literal["trial", "key", "opening"]
"""What a buyer can fetch."""

_WITHOUT_TRIAL = {Stage.FORFEITED, Stage.WITHDRAWN, Stage.REFUNDED, Stage.EXPIRED}


class Dealings:
    """The deals of a desk (see the module). All methods are safe to call from many threads."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def offer(self, actor: Actor, document: Mapping[str, Any]) -> Deal:
        """Put a signed listing up; the same one again changes nothing.

        Raises:
            BadFile, IntegrityError, InvalidInput: the document is not a valid listing of `actor`.
            DealRefused: it has lapsed already, or the seller has too many open deals.
        """
        settings = self._desk.settings
        listing = check_listing(document, actor.public)
        if listing.terms.currency != settings.currency:
            raise InvalidInput(f"this desk trades in {settings.currency}")
        if listing.trial_bytes > settings.max_trial_bytes:
            raise InvalidInput(f"this desk takes trials of {settings.max_trial_bytes} bytes")
        now = self._desk.now()
        deal = Deal.new(listing, at=now)
        with self._desk.writing() as session:
            row = session.get(DealRow, deal.id)
            if row is not None:
                return state_in(row)
            running = select(func.count()).where(
                DealRow.seller == actor.fingerprint,
                DealRow.stage.not_in([stage.value for stage in Stage if stage.final]),
            )
            if (session.scalar(running) or 0) >= settings.open_deals:
                raise DealRefused.of("stage", f"{settings.open_deals} deals of yours are open")
            session.add(
                DealRow(
                    id=deal.id,
                    seller=deal.seller,
                    buyer=None,
                    stage=deal.stage.value,
                    due=deal.due,
                    created=now,
                    events=0,
                    listing=as_text(document),
                    state=as_text(deal.to_dict()),
                )
            )
            session.flush()
            self._desk.log(session, actor.fingerprint, "list", deal.id, dict(actor.evidence))
        return deal

    def stock(
        self, actor: Actor, deal: str, artefact: Artefact, upload: Path, *, sha256: str, size: int
    ) -> Deal:
        """Take an artefact of the seller.

        Args:
            actor: the seller.
            deal: its id.
            artefact: which.
            upload: the file; a trial is moved away, a secret is read.
            sha256: digest of the file, computed by the desk.
            size: bytes of the file.
        """

        def make(session: Session, current: Deal, at: int) -> Event:
            event = Stock(actor=actor.fingerprint, at=at, artefact=artefact, sha256=sha256)
            apply(current, event)  # refused before anything is kept
            if artefact == "trial":
                if size != current.listing.trial_bytes:
                    raise DealRefused.of("lock", f"the trial has {size} bytes, not as listed")
                self._desk.custody.keep(upload, sha256)
                sealed = None
            else:
                sealed = self._desk.custody.seal(f"{deal}/{artefact}", upload.read_bytes())
            session.add(
                ArtefactRow(deal=deal, kind=artefact, sha256=sha256, size=size, sealed=sealed)
            )
            return event

        return self._act(actor, deal, make)

    def deposit(self, actor: Actor, deal: str) -> Deal:
        """Put the deposit down; the caller saw to it that the buyer consents to a locked trial."""
        return self._act(
            actor, deal, lambda _, __, at: Deposit(actor=actor.fingerprint, at=at, consent=True)
        )

    def goods(self, actor: Actor, deal: str, what: Goods) -> Path | bytes:
        """What the buyer may have now: the trial (a file), the sealed key, or the opened key.

        Raises:
            NotYours: `actor` is not the buyer, or has not paid for it.
            MissingData: there is no such deal, or no opened key.
        """
        current = self._desk.store.state(deal)
        if what == "trial" and current.stage is Stage.DEPOSITED:
            current = self._act(
                actor, deal, lambda _, __, at: Fetch(actor=actor.fingerprint, at=at)
            )
        if current.buyer != actor.fingerprint:
            raise NotYours("only the buyer of this deal may have this")
        if what == "trial":
            if current.stage in _WITHOUT_TRIAL:
                raise NotYours(f"the deal is {current.stage.value}")
            return self._desk.custody.require_trial(current.listing.trial)
        if not current.released:
            raise NotYours("the key is released by the final payment", remedy="pay first")
        return self._desk.store.held(deal, what)

    def report(self, actor: Actor, deal: str, document: Mapping[str, Any]) -> Deal:
        """File the buyer's evaluation of the trial."""
        finding = _finding(actor, deal, document, ("trial",))

        def make(session: Session, _: Deal, at: int) -> Event:
            if finding.counts is None:
                raise DealRefused.of("evidence", "the report has no counts")
            sha256 = self._desk.store.keep_document(session, deal, document)
            who = actor.fingerprint
            return Report(actor=who, at=at, right=finding.counts, document=sha256)

        return self._act(actor, deal, make)

    def pay(self, actor: Actor, deal: str) -> Deal:
        """Pay the rest; in the same transaction the key is released."""

        def make(session: Session, current: Deal, at: int) -> Event:
            if current.buyer != actor.fingerprint:
                raise DealRefused.of("role", "only the buyer may do this")
            preimage = self._desk.store.secret(session, deal, "preimage")
            return Pay(actor=actor.fingerprint, at=at, preimage=preimage.hex())

        return self._act(actor, deal, make)

    def accept(self, actor: Actor, deal: str, document: Mapping[str, Any] | None = None) -> Deal:
        """Accept the unlocked model, on the report of an acceptance test if there was one."""
        finding = _finding(actor, deal, document, ("unlocked",)) if document else None

        def make(session: Session, _: Deal, at: int) -> Event:
            sha256 = self._desk.store.keep_document(session, deal, document) if document else None
            attack = finding.counts if finding else None
            return Accept(actor=actor.fingerprint, at=at, attack=attack, document=sha256)

        return self._act(actor, deal, make)

    def dispute(self, actor: Actor, deal: str, document: Mapping[str, Any]) -> Deal:
        """Complain, with a signed report: about the trial, the unlocked model, or the key."""
        finding = _finding(actor, deal, document, ("trial", "unlocked", "key"))
        grounds: dict[str, Literal["accuracy", "attack", "key"]] = {
            "trial": "accuracy",
            "unlocked": "attack",
            "key": "key",
        }

        def make(session: Session, _: Deal, at: int) -> Event:
            return Dispute(
                actor=actor.fingerprint,
                at=at,
                ground=grounds[finding.subject],
                counts=finding.counts,
                document=self._desk.store.keep_document(session, deal, document),
            )

        return self._act(actor, deal, make)

    def open(self, actor: Actor, deal: str, upload: Path, *, sha256: str, size: int) -> Deal:
        """Show the opened key in a dispute."""

        def make(session: Session, current: Deal, at: int) -> Event:
            event = Open(actor=actor.fingerprint, at=at, sha256=sha256)
            apply(current, event)
            sealed = self._desk.custody.seal(f"{deal}/opening", upload.read_bytes())
            session.add(
                ArtefactRow(deal=deal, kind="opening", sha256=sha256, size=size, sealed=sealed)
            )
            return event

        return self._act(actor, deal, make)

    def withdraw(self, actor: Actor, deal: str) -> Deal:
        """Step back."""
        return self._act(actor, deal, lambda _, __, at: Withdraw(actor=actor.fingerprint, at=at))

    def _act(self, actor: Actor, deal: str, make: Make) -> Deal:
        return self._desk.store.act(deal, make, evidence=actor.evidence)


def _finding(
    actor: Actor, deal: str, document: Mapping[str, Any], subjects: tuple[str, ...]
) -> Finding:
    """The finding in a report that `actor` signed about this deal."""
    finding = check_report(document, actor.public)
    if finding.deal != deal:
        raise IntegrityError("the report is about another deal", remedy="sign one about this deal")
    if finding.subject not in subjects:
        raise InvalidInput(
            f"the report is about the {finding.subject}", why=f"needed is {' or '.join(subjects)}"
        )
    return finding
