"""The log of everything that changed, in which no line can be altered, dropped or moved unseen.

Each line carries the SHA-256 of the line before it, so the last hash (which the desk signs and
hands out) vouches for the whole log. A line that is none of a reader's business is shown without
its content, by the hash of it, and still links what is before and behind:

>>> first = link(0, at=5, actor="desk", action="open", subject="", content={}, previous=START)
>>> second = link(1, at=6, actor="desk", action="rule", subject="", content={},
...               previous=first["sha256"])
>>> verify_chain([first, second])[:8] == second["sha256"][:8]
True
>>> verify_chain([{**first, "action": "close"}, second])
Traceback (most recent call last):
doorward.errors.IntegrityError: line 0 of the log was altered: ...
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from doorward.errors import IntegrityError
from doorward.files import canonical_json

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

__all__ = ["START", "append", "head", "lines", "link", "redacted", "verify_chain"]

START = "0" * 64
"""What stands for the line before the first."""

_SAID = ("at", "actor", "action", "subject", "content")


def link(
    number: int, *, at: int, actor: str, action: str, subject: str, content: Any, previous: str
) -> dict[str, Any]:
    """One line: its number, the hash of what it says (``body``), and the hash over both."""
    said = {"at": at, "actor": actor, "action": action, "subject": subject, "content": content}
    chained = {"number": number, "previous": previous, "body": _sha256(said)}
    return {**said, **chained, "sha256": _sha256(chained)}


def redacted(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line without what it says; it still links the chain."""
    return {name: line[name] for name in ("number", "previous", "body", "sha256")}


def verify_chain(chain: Iterable[Mapping[str, Any]], *, start: str = START, first: int = 0) -> str:
    """Check consecutive lines of the log, whole or redacted.

    Args:
        chain: lines, as `lines` gives them.
        start: hash of the line before the first of them.
        first: the number the first of them must have.

    Returns:
        The hash of the last line.

    Raises:
        IntegrityError: a line was altered, dropped, added or moved; the message says which.
    """
    previous = start
    for number, line in enumerate(chain, first):
        body = _sha256({name: line[name] for name in _SAID}) if "at" in line else line["body"]
        chained = {"number": number, "previous": previous, "body": body}
        if _sha256(chained) != line["sha256"] or line["number"] != number:
            raise IntegrityError(
                f"line {number} of the log was altered",
                why="it does not fit its hash, or the line before it",
                remedy="compare with a copy; do not trust what follows",
            )
        previous = line["sha256"]
    return previous


def append(
    session: Session, *, at: int, actor: str, action: str, subject: str, content: Any
) -> str:
    """Add a line inside the caller's transaction; the caller holds the desk's write lock.

    Returns:
        The new head of the chain.
    """
    from doorward.serving.desk.tables import AuditRow

    number, previous = head(session)
    line = link(
        number,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        content=content,
        previous=previous,
    )
    session.add(AuditRow(**{**line, "content": canonical_json(content).decode()}))
    session.flush()
    digest: str = line["sha256"]
    return digest


def head(session: Session) -> tuple[int, str]:
    """The number of lines, and the hash of the last one."""
    from sqlalchemy import select

    from doorward.serving.desk.tables import AuditRow

    last = session.execute(
        select(AuditRow.number, AuditRow.sha256).order_by(AuditRow.number.desc()).limit(1)
    ).first()
    return (last.number + 1, last.sha256) if last else (0, START)


def lines(session: Session, *, first: int = 0, limit: int | None = None) -> list[dict[str, Any]]:
    """Lines from number `first` on, in order."""
    from sqlalchemy import select

    from doorward.serving.desk.tables import AuditRow

    query = select(AuditRow).where(AuditRow.number >= first).order_by(AuditRow.number).limit(limit)
    names = ("at", "actor", "action", "subject", "number", "previous", "body", "sha256")
    return [
        {**{name: getattr(row, name) for name in names}, "content": json.loads(row.content)}
        for row in session.scalars(query)
    ]


def _sha256(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(canonical_json(content)).hexdigest()
