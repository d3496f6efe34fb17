"""What each account has used, with what is being answered at this moment counted in.

    async with accounts.charging(tenant, images) as account:
        account.settle(await recorder.record(...))

Requests beyond the budget are refused here, before anything is computed for them. The database
decides in the end (`EvidenceLog.append`), because other gateways may charge the same account.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from doorward.serving.gateway.evidence import EvidenceLog, Outcome
from doorward.serving.gateway.refusals import Refusal
from doorward.serving.gateway.tenants import Tenant

__all__ = ["Accounts", "Charge"]


class Charge:
    """The state of an account as this gateway last saw it in the database."""

    def __init__(self, used: int, stage: int) -> None:
        self.used, self.stage, self.reserved = used, stage, 0

    def settle(self, outcome: Outcome) -> None:
        """Take over what the database says after an answer.

        Raises:
            Refusal: 429, the answer was over the budget after all, and must not be sent.
        """
        self.used, self.stage = outcome.used, outcome.stage
        if not outcome.accepted:
            raise _spent()


class Accounts:
    """The accounts that have asked this gateway.

    Args:
        log: where they are kept.
    """

    def __init__(self, log: EvidenceLog) -> None:
        self._log = log
        self._known: dict[str, Charge] = {}

    @asynccontextmanager
    async def charging(self, tenant: Tenant, images: int) -> AsyncIterator[Charge]:
        """Reserve `images` of the tenant's budget while they are answered.

        Raises:
            Refusal: 429, the budget does not hold them.
        """
        charge = self._known.get(tenant.account)
        if charge is None:
            found = await asyncio.to_thread(self._log.account, tenant.account)
            charge = self._known.setdefault(tenant.account, Charge(found.used, found.stage))
        if tenant.budget is not None and charge.used + charge.reserved + images > tenant.budget:
            raise _spent()
        charge.reserved += images
        try:
            yield charge
        finally:
            charge.reserved -= images


def _spent() -> Refusal:
    return Refusal(
        "the budget does not hold so many images",
        remedy="ask about fewer, or ask the operator for more",
        status=429,
    )
