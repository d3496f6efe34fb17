"""The chain of rows in SQL: its end, under the gateway's seal, and its growth.

    chain = Chain(secret)
    with database.writing() as session:
        end = chain.end(session)                       # others wait from here on
        chain.extend(session, end, [draft, ...])       # numbered, dated, chained, sealed

Gateways that share a database wait for each other at the end, so there is one order of all rows.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doorward.errors import IntegrityError
from doorward.files import canonical_json
from doorward.randomness import Secret
from doorward.serving.gateway.evidence.rows import GENESIS, Row

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["Chain", "Draft"]


@dataclass(frozen=True)
class Draft:
    """A row before it has its number, time and digest (see `Row`)."""

    kind: str
    tenant: str
    account: str
    facts: Mapping[str, Any]
    count: int = 0
    queries: bytes = b""
    answers: bytes = b""


class Chain:
    """Appends rows, and tells whether an end is one that it wrote.

    Args:
        secret: the gateways'.
    """

    def __init__(self, secret: Secret) -> None:
        from doorward.serving.gateway.evidence import tables

        self._rows, self._ends = tables.EVIDENCE, tables.CHAIN
        self._secret = secret.derive("evidence seal")

    def end(self, session: Session) -> tuple[int, bytes]:
        """Length and last digest, locked until the transaction ends.

        Raises:
            IntegrityError: the end does not bear the seal.
        """
        found = session.execute(self._ends.select().with_for_update()).one_or_none()
        if found is None and session.execute(self._rows.select().limit(1)).first() is None:
            begin = {"id": 1, "length": 0, "head": GENESIS, "seal": self._seal(0, GENESIS)}
            session.execute(self._ends.insert(), [begin])
            return 0, GENESIS
        if found is None or not self.is_sealed(found.length, found.head, found.seal):
            raise IntegrityError(
                "the evidence log does not bear this gateway's seal",
                why="it was changed by somebody else, or the secret is another one",
                remedy="give the secret that it was begun with, or begin a new database",
            )
        return found.length, found.head

    def extend(self, session: Session, end: tuple[int, bytes], drafts: Sequence[Draft]) -> None:
        """Append rows in the transaction of `session`, in which `end` was read."""
        length, head = end
        rows = []
        for draft in drafts:
            length += 1
            facts = canonical_json(draft.facts).decode()
            now = time.time_ns() // 1000
            row = Row(**{**vars(draft), "facts": facts}, number=length, time=now)
            head = row.digest(head)
            rows.append({**vars(row), "digest": head})
        if rows:
            session.execute(self._rows.insert(), rows)
            sealed = {"length": length, "head": head, "seal": self._seal(length, head)}
            session.execute(self._ends.update().values(sealed))

    def is_sealed(self, length: int, head: bytes, seal: bytes) -> bool:
        """Whether `seal` was made with this secret for this end."""
        return hmac.compare_digest(self._seal(length, head), seal)

    def _seal(self, length: int, head: bytes) -> bytes:
        return self._secret.mac(length.to_bytes(8, "big") + head)
