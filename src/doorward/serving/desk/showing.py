"""A deal as sections of a report: the offer, the model card, and for its parties what happened.

::

    for section in deal_sections(deal, viewer=None, history=None):
        report.add(section)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doorward.metrics.statistics import clopper_pearson
from doorward.reporting import Dots, Number, Numbers, Section, Table, Text, Verdict
from doorward.reporting.blocks import Block
from doorward.serving.desk.wording import moment, money
from doorward.trading.protocol import Counts, Deal, Event, Stage

__all__ = ["deal_sections", "moment", "money"]

_STAGES = {
    Stage.LISTED: "The seller has not left everything with the desk yet.",
    Stage.STOCKED: "The desk holds the trial and the sealed key: it can be bought.",
    Stage.DEPOSITED: "The deposit is in escrow; the buyer may fetch the trial.",
    Stage.TRYING: "The buyer is trying the model.",
    Stage.RELEASED: "Paid, and the key is released; the buyer tests the unlocked model.",
    Stage.DISPUTED: "The buyer complained; the desk will count again.",
    Stage.SETTLED: "Done: the seller has the money, the buyer has the key.",
    Stage.REFUNDED: "The seller lost a dispute; the buyer has all money back.",
    Stage.FORFEITED: "The buyer did not pay; the deposit is the seller's.",
    Stage.WITHDRAWN: "The seller stepped back.",
    Stage.EXPIRED: "Nobody bought in time.",
}


def deal_sections(
    deal: Deal, *, viewer: str | None, history: Sequence[Event] | None
) -> list[Section]:
    """The sections of a deal's page.

    Args:
        deal: the deal.
        viewer: fingerprint of who looks, if known.
        history: its events, for a party; None for strangers.
    """
    sections = [_offer(deal), _card(deal)]
    if history is not None and viewer is not None:
        sections.append(_progress(deal, viewer, history))
        sections += [_counts(deal)] if deal.report or deal.complaint else []
        sections += [_ruling(deal)] if deal.ruling else []
    sections.append(_digests(deal))
    return sections


def _offer(deal: Deal) -> Section:
    terms, claim = deal.listing.terms, deal.listing.claim
    price = money(terms.deposit + terms.final, terms.currency)
    numbers = Numbers(
        Number("Price", price, f"of it {money(terms.deposit, terms.currency)} as deposit"),
        Number("Accuracy", f"{claim.accuracy:.1%}", f"claimed on {claim.data}, signed"),
        Number("Bond", money(terms.bond, terms.currency), "the seller's, lost with a dispute"),
        Number("Stage", deal.stage.value, f"until {moment(deal.due)}" if deal.due else ""),
    )
    warning = Text(
        "The trial model obeys a **hidden trigger** of the seller's until it is unlocked. The key "
        f"that withdraws it is released by the final payment; after that the trigger works on at "
        f"most {terms.attack_bound:.1%} of images, tested on {terms.attack_trials} or more, or the "
        "money comes back."
    )
    return Section("The offer", (numbers, warning), _STAGES[deal.stage])


def _card(deal: Deal) -> Section:
    rows = [[str(name), _flat(value)] for name, value in deal.listing.card.items()]
    block: Block = Table(["Field", "Value"], rows) if rows else Text("The seller left it empty.")
    return Section("Model card", (block,))


def _progress(deal: Deal, viewer: str, history: Sequence[Event]) -> Section:
    currency = deal.listing.terms.currency
    numbers = Numbers(
        Number("In escrow", money(deal.escrow, currency)),
        Number("Your account so far", money(deal.net(viewer), currency)),
        Number("Key", "released" if deal.released else "held back"),
    )
    names = {deal.seller: "seller", deal.buyer: "buyer"}
    happened = Table(
        ["When", "Who", "What"],
        [[moment(e.at), names.get(e.actor, e.actor[:16]), e.kind] for e in history],
    )
    moves = Table(
        ["Account", "Moved", "As"],
        [
            [
                names.get(move.account, move.account[:16]),
                money(move.cents if move.direction == "pay" else -move.cents, currency),
                move.reason,
            ]
            for move in deal.moves
        ],
    )
    return Section("What happened", (numbers, happened, *((moves,) if deal.moves else ())))


def _counts(deal: Deal) -> Section:
    claim, terms = deal.listing.claim, deal.listing.terms
    blocks: list[Block] = []
    if deal.report:
        right = deal.report.right
        values = {"claimed": [claim.accuracy], "counted by the buyer": [_share(right)]}
        blocks.append(Dots(values, x="accuracy of the trial", caption=_interval(right)))
    complaint = deal.complaint
    if complaint and complaint.counts and complaint.ground == "attack":
        values = {"promised at most": [terms.attack_bound]}
        values["counted by the buyer"] = [_share(complaint.counts)]
        if deal.ruling and deal.ruling.measured and deal.ruling.measured.attack:
            values["counted by the desk"] = [_share(deal.ruling.measured.attack)]
        blocks.append(Dots(values, x="triggers that work", caption=_interval(complaint.counts)))
    if complaint:
        blocks.append(Text(f"The buyer disputes: {complaint.ground}."))
    return Section("What was counted", tuple(blocks))


def _ruling(deal: Deal) -> Section:
    if deal.ruling is None:  # the caller asked first
        return Section("The ruling", ())
    verdict = Verdict("Did the seller keep the promise?", not deal.ruling.for_buyer)
    reasons = Table(["Check"], [[reason] for reason in deal.ruling.reasons])
    return Section("The ruling", (verdict, reasons))


def _digests(deal: Deal) -> Section:
    listing = deal.listing
    rows = [["deal", deal.id], ["trial", listing.trial], ["sealed key", listing.key]]
    rows += [["hash lock", listing.lock], ["opened key", listing.opening]]
    rows += [[f"commitment to {name}", sha256] for name, sha256 in listing.commitments.items()]
    return Section("Digests", (Table(["Of", "SHA-256"], rows),))


def _share(counts: Counts) -> float:
    return counts.successes / counts.trials


def _interval(counts: Counts) -> str:
    low, high = clopper_pearson(counts.successes, counts.trials)
    return f"{counts}; exact 95 % interval of the buyer's count: {low:.1%} to {high:.1%}."


def _flat(value: Any, depth: int = 4) -> str:
    """A value of the card on one line; what is nested deeper than anybody reads is left out."""
    if isinstance(value, (dict, list)) and depth == 0:
        return "..."
    if isinstance(value, dict):
        return "; ".join(f"{name}: {_flat(inner, depth - 1)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(_flat(inner, depth - 1) for inner in value)
    return str(value)
