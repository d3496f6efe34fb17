"""The desk without HTTP: accounts, money, nonces, the log, and the lock that orders all changes.

::

    desk = Desk(Database("sqlite:///desk.sqlite"), identity, Custody("goods", secret))
    desk.register(ada.public)
    desk.fund("prepaid", Funding(account=ada.public.fingerprint, cents=10_000, key="receipt 17"))
    deal = desk.deals.offer(Actor(public=ada.public), sign_listing(listing, ada))

Every change is one transaction, and changes happen one after the other: SQLite's write lock does
that, and on PostgreSQL an advisory lock of the transaction. So the state of a deal, the ledger and
the log can never disagree, at whatever statement a process dies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sqlalchemy import delete, select, text

from doorward.bundles.identity import Identity, PublicIdentity
from doorward.errors import MissingData, UnknownName
from doorward.files import canonical_json
from doorward.serving.database import Database, upgrade
from doorward.serving.desk import audit, books
from doorward.serving.desk.custody import Custody
from doorward.serving.desk.dealings import Dealings
from doorward.serving.desk.measuring import CommandMeasure, Measure
from doorward.serving.desk.rails import Funding, PaymentRail, PrepaidRail
from doorward.serving.desk.refusals import Unauthenticated
from doorward.serving.desk.rulings import Rulings
from doorward.serving.desk.settings import DeskSettings
from doorward.serving.desk.signatures import WINDOW_SECONDS, Proof
from doorward.serving.desk.store import Store
from doorward.serving.desk.tables import AccountRow, DealRow, NonceRow, VisitRow
from doorward.trading.protocol import Arbiter, CommittedChecks, account_of

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Actor", "Desk"]

MIGRATIONS = Path(__file__).parent / "migrations"
_WRITE_LOCK = 0x6465736B  # "desk"


@dataclass(frozen=True)
class Actor:
    """Who asks, and the signed request that shows it.

    Attributes:
        public: the identity.
        evidence: the request as it was signed, kept in the log.
    """

    public: PublicIdentity
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Names the identity."""
        return self.public.fingerprint


class Desk:
    """One trading desk over one database.

    Args:
        database: its tables are brought up to date.
        identity: signs the head of the log; its fingerprint names the desk in signed requests.
        custody: keeps what the sellers leave.
        settings: limits.
        arbiter: decides disputes.
        measure: counts again in disputes; by default the command of the settings. Without one, the
            operator counts (``doorward desk rule``).
        rails: ways for money to come and go, besides `PrepaidRail`.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        identity: Identity,
        custody: Custody,
        settings: DeskSettings | None = None,
        *,
        arbiter: Arbiter | None = None,
        measure: Measure | None = None,
        rails: Sequence[PaymentRail] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        upgrade(database, MIGRATIONS, table="desk_version")
        self.database, self.identity, self.custody = database, identity, custody
        self.settings = settings or DeskSettings()
        if measure is None and self.settings.measure:
            command, seconds = self.settings.measure, self.settings.measure_seconds
            measure = CommandMeasure(command, seconds=seconds)
        self.rails = {rail.name: rail for rail in (PrepaidRail(), *rails)}
        self._clock = clock
        self._known: dict[str, PublicIdentity] = {}
        self.store, self.deals = Store(self), Dealings(self)
        self.rulings = Rulings(self, arbiter or CommittedChecks(), measure)

    @property
    def fingerprint(self) -> str:
        """Names the desk."""
        return self.identity.public.fingerprint

    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """One transaction that no other change of the desk overlaps."""
        with self.database.writing() as session:
            if self.database.engine.dialect.name == "postgresql":
                session.execute(text(f"select pg_advisory_xact_lock({_WRITE_LOCK})"))
            yield session

    def register(self, public: PublicIdentity, evidence: Mapping[str, Any] | None = None) -> bool:
        """Open an account for an identity; whether it is new.

        Raises:
            IntegrityError: the public identity is not consistent.
        """
        public.check()
        with self.writing() as session:
            if session.get(AccountRow, public.fingerprint) is not None:
                return False
            content = canonical_json(public.to_dict()).decode()
            session.add(
                AccountRow(
                    fingerprint=public.fingerprint,
                    name=public.name,
                    public=content,
                    created=self.now(),
                )
            )
            session.flush()
            self.log(session, public.fingerprint, "register", public.fingerprint, evidence or {})
        return True

    def identity_of(self, fingerprint: str) -> PublicIdentity:
        """A registered identity.

        Raises:
            MissingData: it has no account here.
        """
        if fingerprint not in self._known:
            with self.database.reading() as session:
                row = session.get(AccountRow, fingerprint)
            if row is None:
                raise MissingData(
                    f"{fingerprint[:16]} has no account at this desk",
                    remedy="register it first: doorward trade register",
                )
            if len(self._known) > 10_000:
                self._known.clear()
            self._known[fingerprint] = PublicIdentity.from_dict(json.loads(row.public))
        return self._known[fingerprint]

    def consume(self, proof: Proof) -> None:
        """Note a request as seen, in a transaction of its own: it never counts again.

        Raises:
            Unauthenticated: it was seen before.
        """
        with self.writing() as session:
            if session.get(NonceRow, (proof.key, proof.nonce)) is not None:
                raise Unauthenticated("this request was sent before", remedy="sign a new one")
            expires = proof.time + 2 * WINDOW_SECONDS
            session.add(NonceRow(account=proof.key, nonce=proof.nonce, expires=expires))

    def fund(
        self,
        rail: str,
        funding: Funding,
        *,
        direction: Literal["in", "out"] = "in",
        evidence: Mapping[str, Any] | None = None,
    ) -> bool:
        """Money came in, or leaves; whether this was new.

        Raises:
            UnknownName: there is no such rail.
            MissingData: the account is not registered.
            DealRefused: there is not enough on it to pay out.
            IntegrityError: the key was used for another payment.
        """
        if rail not in self.rails:
            raise UnknownName.of("rail", rail, self.rails)
        self.identity_of(funding.account)
        used = self.rails[rail]
        transfer = used.top_up(funding) if direction == "in" else used.pay_out(funding)
        with self.writing() as session:
            new = books.post(session, transfer, at=self.now())
            if new:
                content = {"transfer": transfer.to_dict(), **(evidence or {})}
                self.log(session, "desk", transfer.reason, funding.account, content)
        return new

    def account(self, fingerprint: str) -> dict[str, Any]:
        """Balance and last lines of an identity's account, JSON-ready."""
        name = account_of(fingerprint)
        public = self.identity_of(fingerprint)
        with self.database.reading() as session:
            cents, lines = books.balance(session, name), books.statement(session, name)
        return {
            "fingerprint": fingerprint,
            "name": public.name,
            "currency": self.settings.currency,
            "cents": cents,
            "statement": lines,
        }

    def accounts(self) -> list[dict[str, Any]]:
        """All accounts with their balances, for the operator."""
        with self.database.reading() as session:
            rows = session.scalars(select(AccountRow).order_by(AccountRow.created))
            return [
                {
                    "fingerprint": row.fingerprint,
                    "name": row.name,
                    "cents": books.balance(session, account_of(row.fingerprint)),
                }
                for row in rows
            ]

    def log(self, session: Session, actor: str, action: str, subject: str, content: Any) -> None:
        """Add a line to the log, in the caller's transaction."""
        plain = json.loads(canonical_json(dict(content)))
        at = self.now()
        audit.append(session, at=at, actor=actor, action=action, subject=subject, content=plain)

    def log_for(self, fingerprint: str, *, first: int, limit: int) -> list[dict[str, Any]]:
        """Lines of the log; those that are not about this identity are redacted."""
        with self.database.reading() as session:
            mine = select(DealRow.id).where(
                (DealRow.seller == fingerprint) | (DealRow.buyer == fingerprint)
            )
            subjects = {fingerprint, *session.scalars(mine)}
            shown = audit.lines(session, first=first, limit=limit)
        return [line if line["subject"] in subjects else audit.redacted(line) for line in shown]

    def sweep(self) -> int:
        """What time brings: deadlines, rulings, and forgetting of old nonces and visits.

        Returns:
            How many deals changed.
        """
        changed = self.store.lapse_all() + self.rulings.rule_all()
        with self.writing() as session:
            for table in (NonceRow, VisitRow):
                session.execute(delete(table).where(table.expires < self.now()))
        return changed

    def verify(self) -> None:
        """Check everything: books, log, and that every deal follows from its events.

        Raises:
            IntegrityError: something does not fit; the message says what.
        """
        with self.database.reading() as session:
            balances = books.audit_books(session)
            audit.verify_chain(audit.lines(session))
            self.store.verify(session, balances)
