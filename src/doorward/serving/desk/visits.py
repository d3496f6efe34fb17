"""A party's browser session: a link, valid once, that a signed request asked for.

A browser cannot sign with a key file, so ``doorward trade status --browse`` asks for a link; the
link sets a cookie, and the cookie shows that party's deals for an hour. Pages only read: nothing
can be bought, paid or withdrawn with a cookie.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from doorward.serving.desk.tables import VisitRow

if TYPE_CHECKING:
    from doorward.serving.desk.desk import Desk

__all__ = ["COOKIE", "SECONDS", "enter", "invite", "visitor"]

COOKIE = "doorward_visit"
SECONDS = 3600
_LINK_SECONDS = 300


def invite(desk: Desk, fingerprint: str) -> str:
    """The path of a fresh link for one identity; it works once, within five minutes."""
    token = secrets.token_urlsafe(32)
    with desk.writing() as session:
        expires = desk.now() + _LINK_SECONDS
        session.add(VisitRow(token=_hash(token), account=fingerprint, expires=expires))
    return f"/enter/{token}"


def enter(desk: Desk, token: str) -> str | None:
    """Use a link: the cookie's value, or None when the link is unknown, used or too old."""
    with desk.writing() as session:
        row = session.get(VisitRow, _hash(token))
        if row is None or row.entered or row.expires < desk.now():
            return None
        cookie = secrets.token_urlsafe(32)
        account = row.account
        session.delete(row)
        expires = desk.now() + SECONDS
        session.add(VisitRow(token=_hash(cookie), account=account, expires=expires, entered=True))
    return cookie


def visitor(desk: Desk, cookie: str | None) -> str | None:
    """Whose cookie this is (a fingerprint), or None."""
    if not cookie:
        return None
    with desk.database.reading() as session:
        row = session.get(VisitRow, _hash(cookie))
    fresh = row is not None and row.entered and row.expires >= desk.now()
    return row.account if row is not None and fresh else None


def _hash(token: str) -> str:
    # Only hashes are stored: a copy of the database opens no page.
    return hashlib.sha256(token.encode()).hexdigest()
