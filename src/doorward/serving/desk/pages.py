"""The desk in a browser: offers, a model's card and claim, and a party's own deals. Read-only.

========================  ===========================================================
``/``                     what can be bought
``/deals/{id}``           one deal: the offer to everybody, the money to its parties
``/mine``                 the visitor's deals and balance
``/enter/{token}``        the link that ``doorward trade status --browse`` asks for
========================  ===========================================================

Rendered on the server in the style of the reports; no script, nothing loaded from elsewhere.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Cookie, Depends, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from doorward.errors import MissingData
from doorward.reporting import Report
from doorward.serving.desk import visits
from doorward.serving.desk.desk import Desk
from doorward.serving.desk.requests import desk_of, open_door
from doorward.serving.desk.showing import deal_sections
from doorward.serving.desk.wording import money
from doorward.trading.protocol import Deal

__all__ = ["router"]

router = APIRouter(
    include_in_schema=False, default_response_class=HTMLResponse, dependencies=[Depends(open_door)]
)

Visit = Annotated[str | None, Cookie(alias=visits.COOKIE)]


@router.get("/")
def offers(request: Request, visit: Visit = None) -> HTMLResponse:
    """What can be bought now."""
    desk = desk_of(request)
    found = desk.store.offers(limit=100)
    report = Report("Models on offer", "Each can be tried before it is paid for.")
    return _page(desk, report, visit, heading="Offers", deals=found, mine=None)


@router.get("/mine")
def mine(request: Request, visit: Visit = None) -> HTMLResponse:
    """The visitor's deals."""
    desk = desk_of(request)
    fingerprint = visits.visitor(desk, visit)
    if fingerprint is None:
        return _stranger(desk)
    account = desk.account(fingerprint)
    balance = money(account["cents"], account["currency"])
    report = Report("My deals", f"{account['name']}, on the account: {balance}")
    found = desk.store.deals_of(fingerprint)
    return _page(desk, report, visit, heading="Deals", deals=found, mine=fingerprint)


@router.get("/deals/{deal}")
def deal(
    request: Request,
    deal: Annotated[str, Path(pattern="^[0-9a-f]{64}$")],
    visit: Visit = None,
) -> HTMLResponse:
    """One deal."""
    desk = desk_of(request)
    try:
        state = desk.store.state(deal)
    except MissingData as error:
        return _page(desk, Report("Not here", str(error)), visit, status=404)
    seller = desk.identity_of(state.seller)
    report = Report(state.listing.title, f"Offered by {seller.name} ({seller.fingerprint[:16]})")
    viewer = visits.visitor(desk, visit)
    history = desk.store.history(deal) if viewer in (state.seller, state.buyer) else None
    for section in deal_sections(state, viewer=viewer, history=history):
        report.add(section)
    return _page(desk, report, visit)


@router.get("/enter/{token}")
def enter(
    request: Request, token: Annotated[str, Path(pattern="^[A-Za-z0-9_-]{20,100}$")]
) -> Response:
    """Use a link once, and go to the visitor's deals."""
    desk = desk_of(request)
    cookie = visits.enter(desk, token)
    if cookie is None:
        return _stranger(desk)
    response = RedirectResponse("/mine", status_code=303)
    response.set_cookie(
        visits.COOKIE,
        cookie,
        max_age=visits.SECONDS,
        httponly=True,
        samesite="lax",  # the link is opened from elsewhere, and the page behind it must show
        secure=request.url.scheme == "https",
    )
    return response


def _stranger(desk: Desk) -> HTMLResponse:
    report = Report(
        "Who are you?", "Ask for a link with `doorward trade status --browse`; it works once."
    )
    return _page(desk, report, None, status=401)


def _page(
    desk: Desk,
    report: Report,
    visit: str | None,
    *,
    heading: str = "",
    deals: list[Deal] | None = None,
    mine: str | None = None,
    status: int = 200,
) -> HTMLResponse:
    viewer = visits.visitor(desk, visit)
    links = None if deals is None else [_link(deal, mine) for deal in deals]
    columns = ["Model", "Price", "Deposit", "Claimed accuracy", "Stage"]
    names: dict[str, Any] = {
        "desk": desk.identity.public.name,
        "fingerprint": desk.fingerprint,
        "visitor": desk.identity_of(viewer).name if viewer else "",
        "heading": heading,
        "columns": [*columns, "As"] if mine else columns,
        "links": links,
    }
    return HTMLResponse(report.html("doorward.serving.desk", **names), status)


def _link(deal: Deal, mine: str | None) -> tuple[str, str, list[str]]:
    terms = deal.listing.terms
    cells = [
        money(terms.deposit + terms.final, terms.currency),
        money(terms.deposit, terms.currency),
        f"{deal.listing.claim.accuracy:.1%}",
        deal.stage.value,
    ]
    if mine:
        cells.append("seller" if mine == deal.seller else "buyer")
    return deal.id, deal.listing.title, cells
