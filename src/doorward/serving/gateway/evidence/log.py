"""Appending to the evidence log, and reading it: one transaction per group of answers.

See the package's page for an example. An answer is charged to its account in the transaction that
writes its row, so budgets hold across gateways that share a database, and a gateway that dies
leaves no row half-written and no acknowledged answer without one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from doorward.errors import StorageFailed
from doorward.randomness import Secret
from doorward.serving.database import Database, upgrade
from doorward.serving.gateway.evidence.chain import Chain, Draft
from doorward.serving.gateway.evidence.checking import EvidenceCheck, follow
from doorward.serving.gateway.evidence.entries import Account, Entry, Outcome
from doorward.serving.gateway.evidence.rows import HASH_BYTES, Row

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["EvidenceLog"]


class EvidenceLog:
    """The log in a database; its tables are made or brought up to date when it is opened.

    Args:
        database: shared by all gateways of one deployment.
        secret: the gateways' secret, from which salts and the seal of the chain derive.
        verify: refuse to open a log whose end does not bear the seal; `check` says more.

    Raises:
        IntegrityError: the end of the chain was not written with this secret.
    """

    def __init__(self, database: Database, secret: Secret, *, verify: bool = True) -> None:
        from doorward.serving.gateway.evidence import tables

        self._database, self._tables = database, tables
        self._chain, self._salting = Chain(secret), secret
        self._salts: dict[str, Secret] = {}
        upgrade(database, tables.MIGRATIONS, table=tables.VERSION_TABLE)
        if verify:
            self._begin()

    def entry(
        self,
        tenant: str,
        account: str,
        images: NDArray[Any],
        answers: NDArray[Any],
        **fields: Any,
    ) -> Entry:
        """An entry for `answers`, row by row those to `images`; they are hashed here.

        Args:
            tenant: name.
            account: the tenant's, or its group's.
            images: ``(N, ...)``, float32.
            answers: ``(N,)`` or ``(N, K)``, as they are sent.
            fields: the other fields of `Entry`.
        """
        return Entry(
            tenant=tenant,
            account=account,
            count=len(images),
            queries=self.hashes(account, "query", images),
            answers=self.hashes(account, "answer", answers),
            **fields,
        )

    def hashes(self, account: str, what: str, rows: NDArray[Any]) -> bytes:
        """HMAC-SHA256 of each row under the account's salt, one behind the other.

        Raw bytes are hashed, so a pixel that differs in its last bit is another image.
        """
        salt = self._salts.get(account)
        if salt is None:
            salt = self._salts[account] = self._salting.derive(f"evidence salt of {account}")
        rows = np.ascontiguousarray(rows)
        prefix = f"{what} {rows.dtype.str} {rows.shape[1:]}|".encode()
        return b"".join(salt.mac(prefix + row.tobytes()) for row in rows)

    def append(self, entries: Sequence[Entry]) -> list[Outcome]:
        """Write entries in one transaction; those beyond their budget are refused.

        Returns:
            What became of each, once all that was accepted is on the disk.

        Raises:
            StorageFailed: the database did not take them; none was written or charged.
        """
        from sqlalchemy.exc import SQLAlchemyError

        try:
            return self._append(entries)
        except SQLAlchemyError as error:
            raise StorageFailed(
                "the evidence log took no rows",
                why=str(getattr(error, "orig", None) or type(error).__name__),
                remedy="nothing was charged; look at the database",
            ) from error

    def account(self, name: str) -> Account:
        """What is kept of an account."""
        with self._database.reading() as session:
            return self._accounts(session, {name}).get(name, Account())

    def accounts(self) -> dict[str, Account]:
        """All accounts that ever asked."""
        table = self._tables.ACCOUNTS
        with self._database.reading() as session:
            return {
                row.account: Account(row.used, row.stage)
                for row in session.execute(table.select().order_by(table.c.account))
            }

    def place(self, account: str, stage: int, *, reason: Mapping[str, Any]) -> None:
        """Put an account at a stage, up or down, by the operator's decision; it is written down.

        Args:
            account: name.
            stage: on the ladder, from 0.
            reason: JSON-ready.
        """
        with self._database.writing() as session:
            end = self._chain.end(session)
            accounts = self._accounts(session, {account})
            before = accounts.get(account, Account())
            facts = {"from": before.stage, "to": stage, **reason}
            self._chain.extend(session, end, [Draft("move", account, account, facts)])
            self._store(session, {account: Account(before.used, stage)}, set(accounts))

    def rows(self, *, tenant: str | None = None, kind: str | None = None) -> Iterator[Row]:
        """Rows in order, all or those of one tenant or kind, read as they are needed."""
        table = self._tables.EVIDENCE
        query = table.select().order_by(table.c.number)
        if tenant is not None:
            query = query.where(table.c.tenant == tenant)
        if kind is not None:
            query = query.where(table.c.kind == kind)
        with self._database.reading() as session:
            for found in session.execute(query.execution_options(yield_per=500)):
                yield _read(found)

    def find(self, tenant: str, images: NDArray[Any]) -> list[Row]:
        """Rows in which a tenant asked about any of `images` (float32 ``(N, C, H, W)``)."""
        salted: dict[str, set[bytes]] = {}
        found = []
        for row in self.rows(tenant=tenant, kind="answer"):
            if row.account not in salted:
                hashes = self.hashes(row.account, "query", images)
                salted[row.account] = set(_split(hashes))
            if not salted[row.account].isdisjoint(_split(row.queries)):
                found.append(row)
        return found

    def check(self, anchor: tuple[int, str] | None = None) -> EvidenceCheck:
        """Follow the whole chain and compare its end with the sealed one.

        Args:
            anchor: number and hex digest of a row, as published earlier.
        """
        table, chain = self._tables.EVIDENCE, self._tables.CHAIN
        query = table.select().order_by(table.c.number).execution_options(yield_per=500)
        with self._database.reading() as session:
            end = session.execute(chain.select()).one_or_none()
            check = follow(((_read(row), row.digest) for row in session.execute(query)), anchor)
        if check.problem is not None:
            return check
        problem = None
        if end is None or not self._chain.is_sealed(end.length, end.head, end.seal):
            problem = "the end of the chain does not bear the gateway's seal"
        elif (end.length, end.head.hex()) != (check.rows, check.head):
            problem = f"{end.length} rows were written, {check.rows} are there"
        return EvidenceCheck(rows=check.rows, head=check.head, problem=problem)

    def _append(self, entries: Sequence[Entry]) -> list[Outcome]:
        with self._database.writing() as session:
            end = self._chain.end(session)  # other gateways wait from here on
            accounts = self._accounts(session, {entry.account for entry in entries})
            known = set(accounts)
            drafts: list[Draft] = []
            outcomes = []
            for entry in entries:
                before = accounts.get(entry.account, Account())
                used = before.used + entry.count
                if entry.budget is not None and used > entry.budget:
                    outcomes.append(Outcome(False, before.used, before.stage))
                    continue
                drafts += _drafts(entry, max(before.stage, entry.start))
                stage = max([before.stage, *(move.stage for move in entry.moves)])
                accounts[entry.account] = Account(used, stage)
                outcomes.append(Outcome(True, used, stage))
            if drafts:
                self._chain.extend(session, end, drafts)
                self._store(session, accounts, known)
        return outcomes

    def _begin(self) -> None:
        from sqlalchemy.exc import IntegrityError as Conflict

        try:
            with self._database.writing() as session:
                self._chain.end(session)
        except Conflict:  # another gateway began the chain at this moment
            with self._database.writing() as session:
                self._chain.end(session)

    def _accounts(self, session: Session, names: set[str]) -> dict[str, Account]:
        table = self._tables.ACCOUNTS
        found = session.execute(table.select().where(table.c.account.in_(names)))
        return {row.account: Account(row.used, row.stage) for row in found}

    def _store(self, session: Session, accounts: dict[str, Account], known: set[str]) -> None:
        table = self._tables.ACCOUNTS
        for name, account in accounts.items():
            values = {"used": account.used, "stage": account.stage}
            if name in known:
                session.execute(table.update().where(table.c.account == name).values(values))
            else:
                session.execute(table.insert().values(account=name, **values))


def _drafts(entry: Entry, stage: int) -> Iterator[Draft]:
    """The rows of an entry: the answer, and the moves that it led to."""
    who = entry.tenant, entry.account
    yield Draft("answer", *who, entry.facts, entry.count, entry.queries, entry.answers)
    for move in entry.moves:
        if move.stage > stage:
            yield Draft("move", *who, {"from": stage, "to": move.stage, **move.reason})
            stage = move.stage


def _read(found: Any) -> Row:
    names = Row.__dataclass_fields__
    return Row(**{name: getattr(found, name) for name in names})


def _split(hashes: bytes) -> list[bytes]:
    return [hashes[start : start + HASH_BYTES] for start in range(0, len(hashes), HASH_BYTES)]
