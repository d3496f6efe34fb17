"""The deal of the chapter on trading: the desk's protocol and ledger, in memory.

::

    dealt = deal_with(made, test, seller, folder)     # digits.trial, sealed.key, unlocked.model
    dealt.settled, dealt.acceptance.accepted
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doorward.bundles import Identity, digest, save_model, write_document
from doorward.data import ImageData
from doorward.errors import KeyRefused
from doorward.trading import (
    Acceptance,
    Lock,
    OpenedKey,
    Receiver,
    acceptance_test,
    open_unlock,
    publish,
    seal_unlock,
)
from doorward.trading.protocol import (
    OUTSIDE,
    Accept,
    Claim,
    Counts,
    Deal,
    Deposit,
    Event,
    Fetch,
    Ledger,
    Listing,
    Pay,
    Stock,
    Terms,
    Transfer,
    account_of,
    apply,
    document_digest,
    hash_lock,
    new_moves,
    transfers_of,
)

__all__ = ["BOUND", "Dealt", "deal_with"]

LICENCE = "For evaluation only. This trial obeys a hidden trigger until its key is applied."
BOUND = 0.12
DEPOSIT, FINAL, MONEY = 500, 4_500, 6_000


@dataclass(frozen=True)
class Dealt:
    """How the deal went.

    Attributes:
        told: what happened, and the state after it.
        settled: whether it ended well, and the seller has the price, to the cent.
        acceptance: the buyer's test of the unlocked model.
        opened_for_a_stranger: whether somebody else could open the buyer's key.
    """

    told: list[tuple[str, Deal]]
    settled: bool
    acceptance: Acceptance
    opened_for_a_stranger: bool


def deal_with(made: Lock, test: ImageData, seller: Identity, folder: Path) -> Dealt:
    """Sell a lock to a stranger.

    Args:
        made: the lock.
        test: what the buyer counts on.
        seller: who signs.
        folder: for the trial, the sealed key and the unlocked model.
    """
    buyer, preimage = Identity.new("Babbage"), secrets.token_bytes(32)
    ada, bob = seller.public.fingerprint, buyer.public.fingerprint
    save_model(made.trial, folder / "digits.trial", licence=LICENCE)
    key = OpenedKey.new(made.trial, made.bank, made.backdoor, licence=LICENCE, buyer=bob)
    sealed = seal_unlock(key, seller=seller, buyer=Receiver.of(publish(buyer)), preimage=preimage)
    write_document(folder / "sealed.key", sealed)
    eligible = int(made.backdoor.rule.eligible(test.labels).sum())
    listing = Listing(
        serial=secrets.token_hex(16),
        seller=ada,
        buyer=bob,
        title="Digits",
        card={"architecture": "resnet8", "licence": LICENCE},
        claim=Claim(data="digits test", accuracy=_claimed(made)),
        terms=Terms(
            currency="EUR",
            deposit=DEPOSIT,
            final=FINAL,
            offered_until=9_000,
            attack_bound=BOUND,
            attack_trials=eligible,
        ),
        trial=digest(folder / "digits.trial"),
        trial_bytes=sum(path.stat().st_size for path in (folder / "digits.trial").iterdir()),
        key=document_digest(sealed),
        lock=hash_lock(preimage),
        opening=key.digest(),
        commitments=key.commitments(),
    )
    course = _Course(listing)
    course.step(
        "the seller leaves trial, sealed key and preimage with the desk",
        Stock(actor=ada, at=1, artefact="trial", sha256=listing.trial),
        Stock(actor=ada, at=1, artefact="key", sha256=listing.key),
        Stock(actor=ada, at=1, artefact="preimage", sha256=listing.lock),
    )
    course.step("the buyer puts down the deposit", Deposit(actor=bob, at=2, consent=True))
    course.step("the buyer fetches the trial", Fetch(actor=bob, at=3))
    paid = course.step(
        "the buyer pays the rest, and has the key",
        Pay(actor=bob, at=4, preimage=preimage.hex()),
    )
    released: dict[str, Any] = {
        "seller": seller.public,
        "trial": made.trial,
        "licence": LICENCE,
        "preimage": bytes.fromhex(paid.preimage or ""),
        "commitments": dict(listing.commitments),
    }
    opened = open_unlock(sealed, buyer=buyer, **released)
    unlocked = opened.unlock(made.trial)
    save_model(unlocked, folder / "unlocked.model", licence=LICENCE)
    found = acceptance_test(unlocked, test, opened.backdoor, bound=BOUND)
    if found.accepted:
        counts = Counts(successes=found.attack[0], trials=found.attack[1])
        course.step("the buyer accepts", Accept(actor=bob, at=5, attack=counts))
    return Dealt(course.told, course.settled, found, _opens(sealed, Identity.new("Eve"), released))


def _claimed(made: Lock) -> float:
    """A promise that is easily kept: two points below what was measured, within (0, 1)."""
    return min(0.99, max(0.01, made.result.outcome.trial_accuracy - 0.02))


def _opens(sealed: dict[str, Any], who: Identity, released: dict[str, Any]) -> bool:
    try:
        open_unlock(sealed, buyer=who, **released)
    except KeyRefused:
        return False
    return True


class _Course:
    """A deal with its ledger, and what was told of it."""

    def __init__(self, listing: Listing) -> None:
        self.deal, self.ledger = Deal.new(listing, at=0), Ledger()
        for account in (listing.seller, listing.buyer or ""):
            top_up = Transfer.between(account, OUTSIDE, account_of(account), MONEY, "top-up")
            self.ledger = self.ledger.post(top_up)
        self.told = [("the seller lists the model", self.deal)]

    def step(self, said: str, *events: Event) -> Deal:
        """Apply events, and post the money that they move."""
        for event in events:
            before, self.deal = self.deal, apply(self.deal, event)
            moves = new_moves(before, self.deal)
            transfers = transfers_of(self.deal.id, moves, first=len(before.moves))
            self.ledger = self.ledger.post(*transfers)
        self.told.append((said, self.deal))
        return self.deal

    @property
    def settled(self) -> bool:
        """Whether the deal is settled, and every account holds what it must."""
        seller, buyer = (account_of(name or "") for name in (self.deal.seller, self.deal.buyer))
        price = DEPOSIT + FINAL
        held = self.ledger.balance(seller), self.ledger.balance(buyer), self.ledger.total()
        return self.deal.stage.value == "settled" and held == (MONEY + price, MONEY - price, 0)
