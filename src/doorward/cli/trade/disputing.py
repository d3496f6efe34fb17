"""``doorward trade dispute|reveal|withdraw|status``: when things go wrong, and where they stand.

::

    doorward trade dispute 3f9a1c --about unlocked --counts 90/500
    doorward trade reveal 3f9a1c opened.key
    doorward trade status
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.keys import PassphraseFile
from doorward.cli.trade.group import group
from doorward.cli.trade.options import (
    DealName,
    DeskFingerprint,
    DeskUrl,
    IdentityFile,
    counts_of,
    desk_client,
    find_deal,
    shown,
)

__all__ = ["dispute", "offers", "opened", "reveal", "status", "withdraw"]


class Subject(StrEnum):
    """What a dispute is about."""

    TRIAL = "trial"
    UNLOCKED = "unlocked"
    KEY = "key"


@group.command(
    epilog="Example: doorward trade dispute 3f9a1c --about unlocked --counts 90/500 --desk "
    "https://desk.example --identity bob.key"
)
def dispute(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    about: Annotated[
        Subject,
        typer.Option(
            help="trial: less accurate than claimed (before paying); unlocked: the trigger still "
            "works; key: it does not open or does not fit."
        ),
    ],
    counts: Annotated[
        str | None,
        typer.Option(
            help="Right answers (trial) or working triggers (unlocked), as 90/500.",
            show_default=False,
        ),
    ] = None,
    remark: Annotated[str, typer.Option(help="In your words.")] = "",
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Complain, with signed counts. The desk counts again, and its count decides."""
    from doorward.trading.protocol import Finding, sign_report

    counted = counts_of(counts) if counts is not None else None
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, who):
        state = find_deal(client, deal)
        finding = Finding(deal=state["id"], subject=about.value, counts=counted, remark=remark)
        document = sign_report(finding, who)
        state = client.post(f"/v1/deals/{state['id']}/dispute", {"document": document})
    answer(state, as_json=as_json, lines=shown(state))


@group.command(
    epilog="Example: doorward trade reveal 3f9a1c opened.key --desk https://desk.example "
    "--identity bob.key"
)
def reveal(
    deal: DealName,
    opening: Annotated[
        Path, typer.Argument(help="The opened key that was listed.", exists=True, dir_okay=False)
    ],
    desk: DeskUrl,
    identity: IdentityFile,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show the opened key to the desk in a dispute; a seller who does not loses it."""
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        name = find_deal(client, deal)["id"]
        state = client.upload(f"/v1/deals/{name}/goods/opening", opening)
    answer(state, as_json=as_json, lines=shown(state))


@group.command(
    epilog="Example: doorward trade opened 3f9a1c --out opened.key --desk "
    "https://desk.example --identity bob.key"
)
def opened(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Fetch the opened key that was shown in a dispute, if the sealed key was garbage."""
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        state = find_deal(client, deal)
        path = f"/v1/deals/{state['id']}/goods/opening"
        client.download(path, out, sha256=state["listing"]["opening"])
    answer({**state, "file": str(out)}, as_json=as_json, lines=[*shown(state), f"file      {out}"])


@group.command(
    epilog="Example: doorward trade withdraw 3f9a1c --desk https://desk.example --identity bob.key"
)
def withdraw(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Step back. A buyer who has the trial loses the deposit; a seller gives it back."""
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        name = find_deal(client, deal)["id"]
        state = client.post(f"/v1/deals/{name}/withdraw")
    answer(state, as_json=as_json, lines=shown(state))


@group.command(epilog="Example: doorward trade offers --desk https://desk.example")
def offers(
    desk: DeskUrl,
    desk_fingerprint: DeskFingerprint = None,
    as_json: Json = False,
) -> None:
    """List what can be bought now; no identity is needed."""
    from doorward.serving.desk.client import DeskClient

    with DeskClient(desk, desk=desk_fingerprint) as client:
        found = client.get("/v1/offers?limit=100", sign=False)
    answer({"offers": found}, as_json=as_json, lines=_listed(found))


@group.command(
    epilog="Example: doorward trade status 3f9a1c --desk https://desk.example --identity bob.key"
)
def status(
    desk: DeskUrl,
    identity: IdentityFile,
    deal: Annotated[
        str | None, typer.Argument(help="A deal; without it, your balance and all your deals.")
    ] = None,
    browse: Annotated[
        bool, typer.Option("--browse", help="Ask for a link that shows your deals in a browser.")
    ] = False,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show your deals and balance, or one deal."""
    from doorward.serving.desk.wording import money

    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        link = desk.rstrip("/") + client.post("/v1/visits")["path"] if browse else None
        if deal is not None:
            state = find_deal(client, deal)
            lines = shown(state)
        else:
            account, found = client.get("/v1/account"), client.get("/v1/deals")
            state = {"account": account, "deals": found}
            balance = money(account["cents"], account["currency"])
            lines = [f"{account['name']}: {balance}", *_listed(found)]
    document = {**state, "link": link} if link else state
    lines += [f"{link}  (works once, within five minutes)"] if link else []
    answer(document, as_json=as_json, lines=lines)


def _listed(deals: list[dict[str, Any]]) -> list[str]:
    from doorward.serving.desk.wording import money

    if not deals:
        return ["No deals."]
    rows = []
    for deal in deals:
        terms = deal["listing"]["terms"]
        price = money(terms["deposit"] + terms["final"], terms["currency"])
        rows.append(
            [deal["id"][:12], deal["listing"]["title"], price, deal["stage"], deal.get("role", "")]
        )
    return [table(["deal", "model", "price", "stage", "as"], rows)]
