"""The HTTP interface, version 1: thin functions over `Desk`; see ``/openapi.json``.

All but the public list of offers needs a signed request (`doorward.serving.desk.signatures`);
bodies are JSON, but goods are sent and fetched as they are.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict

from doorward.bundles.signed import sign_document
from doorward.errors import InvalidInput, UnknownName
from doorward.serving.desk import audit, visits
from doorward.serving.desk.limits import copy_body
from doorward.serving.desk.rails import WebhookRail
from doorward.serving.desk.requests import (
    Sent,
    desk_of,
    open_door,
    registering,
    signed,
    uploaded,
)
from doorward.serving.desk.views import deal_view, offer_view

__all__ = ["Refusal", "router"]


class _Reason(BaseModel):
    code: str
    what: str
    why: str
    remedy: str


class Refusal(BaseModel):
    """The body of every answer that is not a success."""

    error: _Reason


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class DepositBody(_Body):
    """`consent`: the buyer knows that the trial obeys a hidden trigger of the seller's."""

    consent: Literal[True]


class ReportBody(_Body):
    """`document`: a signed report (`doorward.trading.protocol.sign_report`)."""

    document: dict[str, Any]


class AcceptBody(_Body):
    """`document`: the signed report of the acceptance test, if there was one."""

    document: dict[str, Any] | None = None


_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal} for status in (401, 402, 403, 404, 409, 413, 422, 429, 503)
}

router = APIRouter(prefix="/v1", responses=_REFUSALS)

DealId = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="Digest of the listing.")]
Json = Annotated[Sent, Depends(signed())]
Upload = Annotated[Sent, Depends(uploaded(None))]
_OPEN = [Depends(open_door)]


def _takes(schema: Any) -> dict[str, Any]:
    """OpenAPI of a JSON body, which `signed` reads itself because it must see the bytes."""
    inner = schema if isinstance(schema, dict) else schema.model_json_schema()
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": inner}}}}


_OBJECT = {"type": "object"}
_FILE = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/desk", dependencies=_OPEN)
def about(request: Request) -> dict[str, Any]:
    """Who this desk is, what it takes, and the signed head of its log."""
    desk = desk_of(request)
    with desk.database.reading() as session:
        lines, sha256 = audit.head(session)
    head = {"lines": lines, "sha256": sha256}
    return {
        "identity": desk.identity.public.to_dict(),
        "time": desk.now(),
        "settings": {k: v for k, v in desk.settings.to_dict().items() if k != "measure"},
        "measures": desk.rulings.measures,
        "head": sign_document(head, desk.identity, purpose="desk-log-head"),
    }


@router.post("/accounts", status_code=201, openapi_extra=_takes(_OBJECT))
def register(request: Request, sent: Annotated[Sent, Depends(registering)]) -> dict[str, Any]:
    """Open an account: the body is the sender's public identity."""
    desk_of(request).register(sent.actor.public, dict(sent.actor.evidence))
    return desk_of(request).account(sent.actor.fingerprint)


@router.get("/account")
def account(request: Request, sent: Json) -> dict[str, Any]:
    """Balance and last lines of the sender's account."""
    return desk_of(request).account(sent.actor.fingerprint)


@router.get("/offers", dependencies=_OPEN)
def offers(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 50,
    before: Annotated[int | None, Query(ge=0, le=2**40)] = None,
) -> list[dict[str, Any]]:
    """What can be bought now, newest first."""
    found = desk_of(request).store.offers(limit=limit, before=before)
    return [offer_view(deal) for deal in found]


@router.get("/offers/{deal}", dependencies=_OPEN)
def offer(request: Request, deal: DealId) -> dict[str, Any]:
    """The signed listing of a deal, with its seller's public identity in it."""
    store = desk_of(request).store
    return {**offer_view(store.state(deal)), "document": store.listing(deal)}


@router.get("/deals")
def deals(request: Request, sent: Json) -> list[dict[str, Any]]:
    """The sender's deals."""
    mine = desk_of(request).store.deals_of(sent.actor.fingerprint)
    return [deal_view(deal, sent.actor.fingerprint) for deal in mine]


@router.post("/deals", status_code=201, openapi_extra=_takes(_OBJECT))
def list_model(request: Request, sent: Json) -> dict[str, Any]:
    """List a model: the body is a signed listing."""
    return _shown(desk_of(request).deals.offer(sent.actor, sent.content), sent)


@router.get("/deals/{deal}")
def deal_state(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """A deal as its parties see it; others see the offer."""
    return _shown(desk_of(request).store.state(deal), sent)


@router.put("/deals/{deal}/goods/{artefact}", openapi_extra=_FILE)
def stock(
    request: Request,
    deal: DealId,
    artefact: Literal["trial", "key", "preimage", "opening"],
    sent: Upload,
) -> dict[str, Any]:
    """Leave the trial, the sealed key or the preimage; or show the opened key in a dispute."""
    dealings = desk_of(request).deals
    if artefact == "opening":
        after = dealings.open(sent.actor, deal, sent.file, sha256=sent.sha256, size=sent.size)
    else:
        after = dealings.stock(
            sent.actor, deal, artefact, sent.file, sha256=sent.sha256, size=sent.size
        )
    return _shown(after, sent)


@router.get(
    "/deals/{deal}/goods/{what}",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}},
)
def goods(
    request: Request, deal: DealId, what: Literal["trial", "key", "opening"], sent: Json
) -> Response:
    """Fetch the trial (after the deposit), the sealed key or the opened key (after paying)."""
    held = desk_of(request).deals.goods(sent.actor, deal, what)
    if isinstance(held, bytes):
        return Response(held, media_type="application/octet-stream")
    return FileResponse(held, media_type="application/octet-stream")


@router.post("/deals/{deal}/deposit", openapi_extra=_takes(DepositBody))
def deposit(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """Put the deposit down."""
    DepositBody.model_validate(sent.content)
    return _shown(desk_of(request).deals.deposit(sent.actor, deal), sent)


@router.post("/deals/{deal}/report", openapi_extra=_takes(ReportBody))
def report(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """File the evaluation of the trial."""
    document = ReportBody.model_validate(sent.content).document
    return _shown(desk_of(request).deals.report(sent.actor, deal, document), sent)


@router.post("/deals/{deal}/pay")
def pay(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """Pay the rest; the answer holds the preimage, and the key can be fetched."""
    return _shown(desk_of(request).deals.pay(sent.actor, deal), sent)


@router.post("/deals/{deal}/accept", openapi_extra=_takes(AcceptBody))
def accept(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """Accept the unlocked model; the money goes to the seller."""
    document = AcceptBody.model_validate(sent.content).document
    return _shown(desk_of(request).deals.accept(sent.actor, deal, document), sent)


@router.post("/deals/{deal}/dispute", openapi_extra=_takes(ReportBody))
def dispute(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """Complain, with a signed report."""
    document = ReportBody.model_validate(sent.content).document
    return _shown(desk_of(request).deals.dispute(sent.actor, deal, document), sent)


@router.post("/deals/{deal}/withdraw")
def withdraw(request: Request, deal: DealId, sent: Json) -> dict[str, Any]:
    """Step back."""
    return _shown(desk_of(request).deals.withdraw(sent.actor, deal), sent)


@router.get("/log")
def log(
    request: Request,
    sent: Json,
    first: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
    limit: Annotated[int, Query(ge=1, le=1000)] = 200,
) -> list[dict[str, Any]]:
    """Lines of the log; those that are not the sender's business without what they say."""
    return desk_of(request).log_for(sent.actor.fingerprint, first=first, limit=limit)


@router.post("/visits", status_code=201)
def visit(request: Request, sent: Json) -> dict[str, str]:
    """A link for a browser, valid once and for some minutes, to the sender's pages (read-only)."""
    return {"path": visits.invite(desk_of(request), sent.actor.fingerprint)}


@router.post("/hooks/{rail}", dependencies=_OPEN, openapi_extra=_takes(_OBJECT))
async def hook(
    request: Request, rail: Annotated[str, Path(pattern="^[a-z0-9-]{1,40}$")]
) -> dict[str, bool]:
    """A payment provider's notification (`doorward.serving.desk.rails.WebhookRail`)."""
    import io

    from starlette.concurrency import run_in_threadpool

    desk = desk_of(request)
    used = desk.rails.get(rail)
    if not isinstance(used, WebhookRail):
        raise UnknownName.of("rail with notifications", rail, ())
    body = io.BytesIO()
    await copy_body(request.stream(), body, limit=desk.settings.max_json_bytes)
    used.verify(request.headers, body.getvalue(), now=desk.now())
    try:
        funding = used.read(body.getvalue())
    except (KeyError, TypeError, AttributeError) as error:
        raise InvalidInput("the notification cannot be read") from error
    new = funding is not None and await run_in_threadpool(desk.fund, rail, funding)
    return {"new": new}


def _shown(deal: Any, sent: Sent) -> dict[str, Any]:
    return deal_view(deal, sent.actor.fingerprint)
