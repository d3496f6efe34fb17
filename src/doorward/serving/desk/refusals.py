"""What the desk answers when it does not do what was asked, with its HTTP status.

>>> status_of(TooMuch("the file is larger than 10 bytes"))
413
>>> from doorward.trading.protocol import DealRefused
>>> status_of(DealRefused.of("money", "account/ada holds 0 cents, needed are 5"))
402
"""

from __future__ import annotations

from typing import Any

from doorward.errors import (
    BadFile,
    DoorwardError,
    IntegrityError,
    InvalidInput,
    MissingData,
    StorageFailed,
)
from doorward.trading.protocol import DealRefused

__all__ = ["NotYours", "TooMany", "TooMuch", "Unauthenticated", "error_body", "status_of"]


class Unauthenticated(DoorwardError):
    """The request is not signed, wrongly signed, too old, or was sent before."""


class NotYours(DoorwardError):
    """The request is genuine, but its sender may not have this."""


class TooMuch(DoorwardError):
    """The body is larger than is taken."""


class TooMany(DoorwardError):
    """More requests than the desk takes from one sender.

    Attributes:
        wait: seconds until the next one is taken.
    """

    wait: int = 1


_REFUSED = {"role": 403, "stage": 409, "late": 409, "lock": 422, "evidence": 422, "money": 402}

_STATUS: tuple[tuple[type[DoorwardError], int], ...] = (
    (Unauthenticated, 401),
    (NotYours, 403),
    (MissingData, 404),
    (TooMuch, 413),
    (TooMany, 429),
    (StorageFailed, 503),
    (InvalidInput, 422),
    (BadFile, 422),
    (IntegrityError, 422),
)


def status_of(error: DoorwardError) -> int:
    """The HTTP status of an error; 500 for what should not reach a client."""
    if isinstance(error, DealRefused):
        return _REFUSED[error.code]
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def error_body(error: DoorwardError) -> dict[str, Any]:
    """The JSON body that goes with it."""
    code = getattr(error, "code", "") or type(error).__name__
    return {"error": {"code": code, "what": error.what, "why": error.why, "remedy": error.remedy}}
