"""What of a deal is shown to whom, JSON-ready.

Everybody sees the offer; the parties see money, reports and rulings; the buyer alone sees the
preimage, once it is released.
"""

from __future__ import annotations

from typing import Any

from doorward.trading.protocol import Deal, allowed

__all__ = ["deal_view", "offer_view"]


def offer_view(deal: Deal) -> dict[str, Any]:
    """A deal as strangers see it: the listing, and whether it can be bought."""
    return {
        "id": deal.id,
        "stage": deal.stage.value,
        "due": deal.due,
        "listing": deal.listing.to_dict(),
    }


def deal_view(deal: Deal, viewer: str | None = None) -> dict[str, Any]:
    """A deal as `viewer` (a fingerprint) may see it."""
    if viewer is None or viewer not in (deal.seller, deal.buyer):
        return offer_view(deal)
    content = deal.to_dict()
    role = "seller" if viewer == deal.seller else "buyer"
    hidden = {"listing", *(("preimage",) if role == "seller" else ())}
    return {
        **offer_view(deal),
        "role": role,
        "escrow": deal.escrow,
        "net": deal.net(viewer),
        "released": deal.released,
        "possible": list(allowed(deal)),
        **{name: value for name, value in content.items() if name not in hidden},
    }
