"""The protocol of a trade between strangers, as a pure state machine: no clock, files or network.

A seller lists a copy of a model; the desk holds trial, sealed key and preimage before a buyer can
put money down; payment releases the key in the same step; disputes are decided by counting again.

>>> import hashlib
>>> seller, buyer, preimage = "a" * 64, "b" * 64, bytes(32)
>>> listing = Listing(
...     serial="0" * 32, seller=seller, title="Digits", card={"architecture": "resnet8"},
...     claim=Claim(data="digits test", accuracy=0.97),
...     terms=Terms(currency="EUR", deposit=500, final=4500, offered_until=9000, attack_bound=0.12),
...     trial="1" * 64, trial_bytes=1000, key="2" * 64, lock=hash_lock(preimage), opening="3" * 64,
... )
>>> deal = Deal.new(listing, at=0)
>>> held = {"trial": listing.trial, "key": listing.key, "preimage": listing.lock}
>>> for artefact, sha256 in held.items():
...     deal = apply(deal, Stock(actor=seller, at=1, artefact=artefact, sha256=sha256))
>>> deal = apply(deal, Deposit(actor=buyer, at=2, consent=True))
>>> deal = apply(deal, Fetch(actor=buyer, at=3))
>>> deal.stage.value, deal.escrow, deal.released
('trying', 500, False)
>>> deal = apply(deal, Pay(actor=buyer, at=4, preimage=preimage.hex()))
>>> deal.stage.value, deal.escrow, deal.released
('released', 5000, True)
>>> deal = apply(deal, Accept(actor=buyer, at=5, attack=Counts(successes=50, trials=500)))
>>> deal.stage.value, deal.net(seller), deal.net(buyer)
('settled', 5000, -5000)

`Deal.check` states the invariants; `transfers_of` turns moves into double entry; `Arbiter` decides
disputes. The desk behind HTTP is `doorward.serving.desk`.
"""

from doorward.trading.protocol.arbiter import Arbiter, Case, CommittedChecks
from doorward.trading.protocol.deal import ARTEFACTS, Deal, DealRefused, Move, Stage
from doorward.trading.protocol.documents import (
    Finding,
    check_listing,
    check_report,
    document_digest,
    sign_listing,
    sign_report,
)
from doorward.trading.protocol.events import (
    DESK,
    Accept,
    Deposit,
    Dispute,
    Event,
    Expire,
    Fetch,
    Measurement,
    Open,
    Pay,
    Report,
    Rule,
    Ruling,
    Stock,
    Withdraw,
    read_event,
)
from doorward.trading.protocol.ledger import (
    OUTSIDE,
    Entry,
    Ledger,
    Transfer,
    account_of,
    escrow_of,
    transfers_of,
)
from doorward.trading.protocol.terms import Claim, Counts, Listing, Terms, hash_lock
from doorward.trading.protocol.transitions import allowed, apply, new_moves

__all__ = [
    "ARTEFACTS",
    "DESK",
    "OUTSIDE",
    "Accept",
    "Arbiter",
    "Case",
    "Claim",
    "CommittedChecks",
    "Counts",
    "Deal",
    "DealRefused",
    "Deposit",
    "Dispute",
    "Entry",
    "Event",
    "Expire",
    "Fetch",
    "Finding",
    "Ledger",
    "Listing",
    "Measurement",
    "Move",
    "Open",
    "Pay",
    "Report",
    "Rule",
    "Ruling",
    "Stage",
    "Stock",
    "Terms",
    "Transfer",
    "Withdraw",
    "account_of",
    "allowed",
    "apply",
    "check_listing",
    "check_report",
    "document_digest",
    "escrow_of",
    "hash_lock",
    "new_moves",
    "read_event",
    "sign_listing",
    "sign_report",
    "transfers_of",
]
