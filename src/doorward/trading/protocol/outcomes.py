"""Where the money goes when a deal ends, or takes a step: deals in, deals with more moves out.

::

    deal = hold(deal, buyer, 500, "deposit")
    deal = settled(deal)                    # price to the seller, bond back

Every function appends to `Deal.moves` and never takes anything away; `Deal.check` verifies what
they make.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from doorward.trading.protocol.deal import Deal, Move, Stage

__all__ = [
    "bond_back",
    "deposit_back",
    "forfeited",
    "hold",
    "refunded",
    "reopened",
    "settled",
]


def settled(deal: Deal) -> Deal:
    """The seller earned the price; the bond goes back."""
    terms = deal.listing.terms
    earned = _pay_out(deal, deal.seller, terms.deposit + terms.final, "price")
    return dataclasses.replace(bond_back(earned), stage=Stage.SETTLED, due=None)


def refunded(deal: Deal) -> Deal:
    """The seller lost a dispute: everything in escrow goes to the buyer, the bond as penalty."""
    bond = deal.listing.terms.bond
    buyer = deal.buyer or ""
    back = _pay_out(deal, buyer, deal.escrow - bond, "refund")
    penalised = _pay_out(back, buyer, bond, "penalty")
    return dataclasses.replace(penalised, stage=Stage.REFUNDED, due=None)


def forfeited(deal: Deal) -> Deal:
    """The buyer keeps the trial and does not pay: the deposit is the seller's."""
    earned = _pay_out(deal, deal.seller, deal.listing.terms.deposit, "forfeited deposit")
    return dataclasses.replace(bond_back(earned), stage=Stage.FORFEITED, due=None)


def reopened(deal: Deal) -> Deal:
    """The buyer is gone without having seen the trial: the offer stands as before."""
    back = deposit_back(deal)
    if deal.at >= deal.listing.terms.offered_until:
        return dataclasses.replace(bond_back(back), stage=Stage.EXPIRED, buyer=None, due=None)
    due = deal.listing.terms.offered_until
    return dataclasses.replace(back, stage=Stage.STOCKED, buyer=None, due=due)


def deposit_back(deal: Deal) -> Deal:
    """The deposit, if there is one, goes back to the buyer."""
    if deal.buyer is None:
        return deal
    return _pay_out(deal, deal.buyer, deal.listing.terms.deposit, "deposit back")


def bond_back(deal: Deal) -> Deal:
    """The bond, once it was put up, goes back to the seller."""
    held = deal.stage is not Stage.LISTED
    return _pay_out(deal, deal.seller, deal.listing.terms.bond if held else 0, "bond back")


def hold(deal: Deal, account: str, cents: int, reason: str) -> Deal:
    """Money goes from an account into escrow; nothing happens for 0 cents."""
    return _moved(deal, "hold", account, cents, reason)


def _pay_out(deal: Deal, account: str, cents: int, reason: str) -> Deal:
    return _moved(deal, "pay", account, cents, reason)


def _moved(
    deal: Deal, direction: Literal["hold", "pay"], account: str, cents: int, reason: str
) -> Deal:
    if cents == 0:
        return deal
    move = Move(direction=direction, account=account, cents=cents, reason=reason)
    return dataclasses.replace(deal, moves=(*deal.moves, move))
