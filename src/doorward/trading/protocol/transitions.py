"""The rules of a deal: which event is allowed to whom, when, and what follows from it.

::

    deal = Deal.new(listing, at=now)
    deal = apply(deal, Stock(actor=seller, at=now, artefact="trial", sha256=...))   # and so on
    deal = apply(deal, Deposit(actor=buyer, at=now, consent=True))
    deal = apply(deal, Fetch(actor=buyer, at=now))
    deal = apply(deal, Pay(actor=buyer, at=now, preimage=...))     # paid and released, in one step
    deal = apply(deal, Accept(actor=buyer, at=now))                # settled

Pure: no clock, no files, no money; whoever stores the new state also posts `new_moves` to the
ledger, in the same transaction. The hash lock makes payment and release one transition: `Pay`
carries the preimage, and the state after it shows the preimage if and only if it holds the money.

Fair exchange through a third party that can see neither masks nor trigger until a dispute; the
protocol of Xu et al. (2024) has no third party, and everything here is our construction.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from doorward.trading.protocol import outcomes
from doorward.trading.protocol.deal import ARTEFACTS, Deal, DealRefused, Move, Stage
from doorward.trading.protocol.events import (
    Accept,
    Deposit,
    Dispute,
    Event,
    Expire,
    Fetch,
    Open,
    Pay,
    Report,
    Rule,
    Stock,
    Withdraw,
)
from doorward.trading.protocol.terms import hash_lock

__all__ = ["allowed", "apply", "new_moves"]


def apply(deal: Deal, event: Event) -> Deal:
    """The deal after `event`.

    Args:
        deal: as it stands.
        event: what happened; its time is not before the last one's.

    Returns:
        The new state, checked against the invariants.

    Raises:
        DealRefused: the event is not allowed: by this actor, in this stage, at this time, or
            with this evidence. The deal is unchanged.
        IntegrityError: an invariant broke, which is a fault of Doorward.
    """
    stages, follow = _RULES[type(event)]
    if deal.stage not in stages:
        raise DealRefused.of(
            "stage",
            f"{event.kind} is not possible: the deal is {deal.stage.value}",
            remedy=f"possible now: {', '.join(allowed(deal)) or 'nothing, it is over'}",
        )
    if event.at < deal.at:
        raise DealRefused.of("late", "the event is older than the last one of this deal")
    lapsed = deal.due is not None and event.at >= deal.due
    if lapsed and not isinstance(event, Expire):
        raise DealRefused.of("late", f"the deadline of the stage {deal.stage.value} has passed")
    after = follow(dataclasses.replace(deal, at=event.at), event)
    after.check()
    return after


def allowed(deal: Deal) -> tuple[str, ...]:
    """The kinds of events that the stage of `deal` allows, by anybody.

    >>> from doorward.trading.protocol.deal import Stage
    >>> [kind.__name__ for kind, (stages, _) in _RULES.items() if Stage.STOCKED in stages]
    ['Deposit', 'Expire', 'Withdraw']
    """
    return tuple(kind.kind for kind, (stages, _) in _RULES.items() if deal.stage in stages)


def new_moves(before: Deal | None, after: Deal) -> tuple[Move, ...]:
    """The money that moved between two states of one deal, in order."""
    return after.moves[len(before.moves) if before else 0 :]


def _stock(deal: Deal, event: Stock) -> Deal:
    _require(event.actor, deal.seller, "the seller")
    listing = deal.listing
    expected = {"trial": listing.trial, "key": listing.key, "preimage": listing.lock}
    if event.artefact in deal.stocked:
        raise DealRefused.of("stage", f"the desk has the {event.artefact} already")
    if event.sha256 != expected[event.artefact]:
        raise DealRefused.of(
            "lock",
            f"this is not the {event.artefact} of the listing",
            why=f"its digest is {event.sha256[:16]}, listed is {expected[event.artefact][:16]}",
            remedy="send the file that was listed",
        )
    stocked = (*deal.stocked, event.artefact)
    if set(stocked) != set(ARTEFACTS):
        return dataclasses.replace(deal, stocked=stocked)
    bonded = outcomes.hold(deal, deal.seller, listing.terms.bond, "bond")
    return dataclasses.replace(bonded, stocked=stocked, stage=Stage.STOCKED)


def _deposit(deal: Deal, event: Deposit) -> Deal:
    if event.actor == deal.seller:
        raise DealRefused.of("role", "the seller cannot buy the own model")
    if deal.listing.buyer is not None:
        _require(event.actor, deal.listing.buyer, "the buyer it was listed for")
    terms = deal.listing.terms
    held = outcomes.hold(deal, event.actor, terms.deposit, "deposit")
    due = event.at + terms.trial_seconds
    return dataclasses.replace(held, stage=Stage.DEPOSITED, buyer=event.actor, due=due)


def _fetch(deal: Deal, event: Fetch) -> Deal:
    _require(event.actor, deal.buyer, "the buyer")
    return dataclasses.replace(deal, stage=Stage.TRYING)


def _report(deal: Deal, event: Report) -> Deal:
    _require(event.actor, deal.buyer, "the buyer")
    return dataclasses.replace(deal, report=event)


def _pay(deal: Deal, event: Pay) -> Deal:
    _require(event.actor, deal.buyer, "the buyer")
    if hash_lock(bytes.fromhex(event.preimage)) != deal.listing.lock:
        raise DealRefused.of("lock", "the preimage does not open the hash lock")
    terms = deal.listing.terms
    held = outcomes.hold(deal, event.actor, terms.final, "final payment")
    due = event.at + terms.acceptance_seconds
    return dataclasses.replace(held, stage=Stage.RELEASED, preimage=event.preimage, due=due)


def _accept(deal: Deal, event: Accept) -> Deal:
    _require(event.actor, deal.buyer, "the buyer")
    if event.attack is not None:
        _enough(deal, event.attack.trials)
        if deal.listing.terms.refutes_lock(event.attack):
            raise DealRefused.of(
                "evidence",
                "the acceptance test failed, so the model cannot be accepted on it",
                why=f"the trigger worked on {event.attack}, promised were at most "
                f"{deal.listing.terms.attack_bound:.2%}",
                remedy="dispute it",
            )
    return outcomes.settled(deal)


def _dispute(deal: Deal, event: Dispute) -> Deal:
    _require(event.actor, deal.buyer, "the buyer")
    if (event.ground == "accuracy") != (deal.stage is Stage.TRYING):
        raise DealRefused.of(
            "stage",
            f"a dispute about {event.ground} is not possible: the deal is {deal.stage.value}",
            why="accuracy is disputed before paying, the lock and the key after",
        )
    if deal.stage is Stage.TRYING and deal.complaint is not None:
        raise DealRefused.of("stage", "the accuracy was disputed and ruled upon already")
    if event.ground != "key":
        _supports(deal, event)
    awaited = event.ground != "accuracy"  # the opened key, which only a party can show
    due = event.at + deal.listing.terms.answer_seconds if awaited else None
    return dataclasses.replace(deal, stage=Stage.DISPUTED, complaint=event, due=due)


def _open(deal: Deal, event: Open) -> Deal:
    if event.actor not in (deal.seller, deal.buyer):
        raise DealRefused.of("role", "only a party of the deal may do this")
    if deal.preimage is None or deal.opening:
        raise DealRefused.of("stage", "the desk needs no opened key for this dispute")
    if event.sha256 != deal.listing.opening:
        raise DealRefused.of(
            "lock",
            "this is not the opened key that the listing commits to",
            why=f"its digest is {event.sha256[:16]}, listed is {deal.listing.opening[:16]}",
        )
    return dataclasses.replace(deal, opening=True, due=None)


def _rule(deal: Deal, event: Rule) -> Deal:
    if deal.released and not deal.opening:
        raise DealRefused.of("stage", "the opened key has not been shown yet")
    ruled = dataclasses.replace(deal, ruling=event.ruling)
    if event.ruling.for_buyer:
        return outcomes.refunded(ruled)
    if deal.released:
        return outcomes.settled(ruled)
    due = event.at + deal.listing.terms.trial_seconds
    return dataclasses.replace(ruled, stage=Stage.TRYING, due=due)


def _expire(deal: Deal, event: Expire) -> Deal:
    if deal.due is None or event.at < deal.due:
        raise DealRefused.of("stage", "no deadline has passed")
    if deal.stage is Stage.RELEASED:
        return outcomes.settled(deal)
    if deal.stage is Stage.DISPUTED:
        return outcomes.refunded(deal)
    if deal.stage is Stage.TRYING:
        return outcomes.forfeited(deal)
    if deal.stage is Stage.DEPOSITED:
        return outcomes.reopened(deal)
    return dataclasses.replace(outcomes.bond_back(deal), stage=Stage.EXPIRED, due=None)


def _withdraw(deal: Deal, event: Withdraw) -> Deal:
    if event.actor == deal.seller:
        back = outcomes.bond_back(outcomes.deposit_back(deal))
        return dataclasses.replace(back, stage=Stage.WITHDRAWN, due=None)
    _require(event.actor, deal.buyer, "a party of the deal")
    return outcomes.reopened(deal) if deal.stage is Stage.DEPOSITED else outcomes.forfeited(deal)


def _require(actor: str, needed: str | None, role: str) -> None:
    if actor != needed:
        raise DealRefused.of("role", f"only {role} may do this")


def _enough(deal: Deal, trials: int) -> None:
    needed = deal.listing.terms.attack_trials
    if trials < needed:
        raise DealRefused.of(
            "evidence", f"{trials} triggered images are too few", why=f"the terms ask for {needed}"
        )


def _supports(deal: Deal, event: Dispute) -> None:
    """Refuse a complaint that the buyer's own counts do not support."""
    terms = deal.listing.terms
    if event.counts is None:
        raise DealRefused.of("evidence", f"a dispute about {event.ground} needs counts")
    if event.ground == "accuracy":
        enough = deal.listing.claim.refuted_by(event.counts, alpha=terms.alpha)
    else:
        _enough(deal, event.counts.trials)
        enough = terms.refutes_lock(event.counts)
    if not enough:
        raise DealRefused.of(
            "evidence",
            f"{event.counts} do not refute what was promised",
            why=f"such a count is not rarer than {terms.alpha} under the promise",
            remedy="count more images, or accept",
        )


_BEFORE_BUYER = {Stage.LISTED, Stage.STOCKED}
_BEFORE_PAYMENT = {Stage.DEPOSITED, Stage.TRYING}
_OPEN = {stage for stage in Stage if not stage.final}

_RULES: dict[type[Event], tuple[set[Stage], Callable[[Deal, Any], Deal]]] = {
    Stock: ({Stage.LISTED}, _stock),
    Deposit: ({Stage.STOCKED}, _deposit),
    Fetch: ({Stage.DEPOSITED}, _fetch),
    Report: ({Stage.TRYING}, _report),
    Pay: ({Stage.TRYING}, _pay),
    Accept: ({Stage.RELEASED}, _accept),
    Dispute: ({Stage.TRYING, Stage.RELEASED}, _dispute),
    Open: ({Stage.DISPUTED}, _open),
    Rule: ({Stage.DISPUTED}, _rule),
    Expire: (_OPEN, _expire),
    Withdraw: (_BEFORE_BUYER | _BEFORE_PAYMENT, _withdraw),
}
"""Who may do what is in the functions; when, is here."""
