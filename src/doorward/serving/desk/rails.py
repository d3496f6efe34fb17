"""How money comes to the desk and leaves it: one rail built in, and a hook for providers.

Deals are always paid from prepaid accounts, because payment and release of a key must be one
transaction, and no transaction reaches into a bank. A rail only moves money between the world and
those accounts:

>>> rail = PrepaidRail()
>>> transfer = rail.top_up(Funding(account="a" * 64, cents=500, key="receipt 17"))
>>> transfer.key, [entry.cents for entry in transfer.entries]
('prepaid/receipt 17', [-500, 500])

A provider of payments derives from `WebhookRail` and says how its notifications read; signature,
age and idempotency are checked here. The desk serves it at ``POST /v1/hooks/NAME``.
"""

from __future__ import annotations

import hashlib
import hmac
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.randomness import Secret
from doorward.records import STRICT, Record
from doorward.serving.desk.refusals import Unauthenticated
from doorward.trading.protocol import OUTSIDE, Transfer, account_of
from doorward.trading.protocol.terms import Cents, Digest

__all__ = ["Funding", "PaymentRail", "PrepaidRail", "WebhookRail"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Funding(Record):
    """Money that arrived for an account, or shall leave it.

    Attributes:
        account: fingerprint of the account's identity.
        cents: how much, in the desk's currency.
        key: the idempotency key: the provider's own number of the payment. A second notification
            with this key changes nothing.
    """

    account: Digest
    cents: Annotated[Cents, Field(ge=1)]
    key: Annotated[str, Field(pattern=r"^[ -~]{1,120}$")]


class PaymentRail(ABC):
    """Turns payments in the world into transfers of the ledger.

    The desk posts the transfer in its own transaction, once per key, and audits it. A rail holds
    no money and no state.
    """

    name: str

    def top_up(self, funding: Funding) -> Transfer:
        """Money arrived."""
        account = account_of(funding.account)
        return Transfer.between(self._key(funding), OUTSIDE, account, funding.cents, "top-up")

    def pay_out(self, funding: Funding) -> Transfer:
        """Money leaves: called when the payment in the world is on its way, never before."""
        account = account_of(funding.account)
        return Transfer.between(self._key(funding), account, OUTSIDE, funding.cents, "pay-out")

    def _key(self, funding: Funding) -> str:
        return f"{self.name}/{funding.key}"


class PrepaidRail(PaymentRail):
    """Accounts that the operator credits and debits by hand, against cash, invoice or transfer.

    The complete built-in rail: ``doorward desk account --credit``.
    """

    name = "prepaid"


class WebhookRail(PaymentRail):
    """A provider that notifies the desk of payments by signed HTTP requests.

    The signature is the scheme most providers use: ``HMAC-SHA256(secret, time + "." + body)`` in
    hex, with the time in seconds beside it. A notification is taken within `tolerance` seconds; its
    key makes a repeated one harmless.

    Args:
        secret: shared with the provider.
        tolerance: largest age of a notification in seconds.

    A provider is one method::

        class Acme(WebhookRail):
            name = "acme"

            def read(self, body: bytes) -> Funding | None:
                event = parse_object(body, "the notification")
                if event.get("type") != "payment.succeeded":
                    return None
                return Funding(account=event["reference"], cents=event["amount"], key=event["id"])
    """

    time_header = "Webhook-Time"
    signature_header = "Webhook-Signature"

    def __init__(self, secret: Secret, *, tolerance: int = 300) -> None:
        self._secret, self._tolerance = secret, tolerance

    @abstractmethod
    def read(self, body: bytes) -> Funding | None:
        """The payment in a genuine notification, or None when it is about something else.

        Raises:
            BadFile, InvalidInput: it cannot be read; the provider is told to try again.
        """

    def verify(self, headers: Mapping[str, str], body: bytes, *, now: int) -> None:
        """Check that the provider sent this, lately.

        Raises:
            Unauthenticated: the signature does not fit, or it is too old.
        """
        lowered = {name.lower(): value for name, value in headers.items()}
        time = lowered.get(self.time_header.lower(), "")
        given = lowered.get(self.signature_header.lower(), "")
        if not (time.isascii() and time.isdigit() and len(time) <= 13):
            raise Unauthenticated("the notification has no time")
        expected = self.signature(time, body)
        if not hmac.compare_digest(expected.encode(), given.encode()):
            raise Unauthenticated("the signature of the notification does not fit")
        if abs(now - int(time)) > self._tolerance:
            raise Unauthenticated(
                "the notification is too old", remedy="send it again, signed anew"
            )

    def signature(self, time: str, body: bytes) -> str:
        """What the provider must have sent, in hex."""
        message = time.encode() + b"." + body
        return hmac.new(self._secret.reveal(), message, hashlib.sha256).hexdigest()
