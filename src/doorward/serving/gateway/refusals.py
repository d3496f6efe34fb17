"""Why a request is not answered: an HTTP status, a sentence, and when to come back.

>>> refusal = Refusal("the body has 90 bytes", why="at most 50 are read", status=413)
>>> refusal.status, str(refusal)
(413, 'the body has 90 bytes: at most 50 are read')

Everything that a stranger can send wrongly ends as a `Refusal` below 500; 503 says that the request
was fine and may be sent again.
"""

from __future__ import annotations

from doorward.errors import DoorwardError

__all__ = ["Refusal"]


class Refusal(DoorwardError):
    """A request that is not answered.

    Args:
        what: what is wrong with it.
        why: the reason, or what was expected.
        remedy: what the client can do.
        status: the HTTP status.
        retry_after: seconds after which another try may succeed; None if it would not.
    """

    def __init__(
        self,
        what: str,
        *,
        why: str = "",
        remedy: str = "",
        status: int = 400,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(what, why=why, remedy=remedy)
        self.status, self.retry_after = status, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        if self.status == 401:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_after is None:
            return {}
        return {"Retry-After": str(max(1, round(self.retry_after)))}
