"""Money and time in words, for pages and terminals.

>>> money(123456, "EUR"), money(-5, "EUR")
('1,234.56 EUR', '-0.05 EUR')
>>> moment(1_800_000_000)
'2027-01-15 08:00 UTC'
"""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["moment", "money"]


def money(cents: int, currency: str) -> str:
    """An amount of cents in words."""
    sign, whole = "-" if cents < 0 else "", abs(cents)
    return f"{sign}{whole // 100:,}.{whole % 100:02d} {currency}"


def moment(seconds: int) -> str:
    """A time in words."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} seconds after 1970"
