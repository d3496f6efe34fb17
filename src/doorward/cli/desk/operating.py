"""``doorward desk init|serve|account|rule|verify``: what an operator does.

::

    doorward desk init my-desk --name "The desk"
    doorward desk serve my-desk --port 8700
    doorward desk account my-desk FINGERPRINT --credit 100.00 --reference "receipt 17"
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, note, table
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.trade.options import cents_of, counts_of

if TYPE_CHECKING:
    from doorward.serving.desk.desk import Desk
    from doorward.serving.desk.rails import PaymentRail

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Run a trading desk, where strangers sell models to strangers.",
    epilog="Example: doorward desk init my-desk --name 'The desk'",
)

Folder = Annotated[Path, typer.Argument(help="The desk's folder.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        envvar="DOORWARD_DESK_DATABASE",
        help="Another database, as an SQLAlchemy URL. Default: desk.sqlite in the folder.",
        show_default=False,
    ),
]


@group.command(epilog="Example: doorward desk init my-desk --name 'The desk' --currency EUR")
def init(
    folder: Folder,
    name: Annotated[str, typer.Option(help="What the desk is called.")],
    currency: Annotated[str, typer.Option(help="Of all prices; three capital letters.")] = "EUR",
    measure: Annotated[
        str | None,
        typer.Option(
            help="Command that counts again in disputes, such as 'doorward desk count {trial} "
            "{listing} {opening} --json'. Default: none, you count by hand.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make the folder of a new desk: its keys, settings and, at the first start, its database."""
    from doorward.serving.desk.home import create
    from doorward.serving.desk.measuring import CommandMeasure
    from doorward.serving.desk.settings import DeskSettings

    settings = DeskSettings(currency=currency, measure=tuple(shlex.split(measure or "")))
    if settings.measure:
        CommandMeasure(settings.measure)  # refused now rather than in the first dispute
    phrase = passphrase(passphrase_file, what=str(folder), repeat=True)
    identity = create(folder, name=name, passphrase=phrase, settings=settings)
    fingerprint = identity.public.fingerprint
    answer(
        {"folder": str(folder), "name": name, "fingerprint": fingerprint},
        as_json=as_json,
        lines=[
            f"{folder}  the desk: keep it, and a backup of all of it together",
            f"{folder / 'desk.json'}  its settings; edit them while it does not run",
            f"fingerprint  {fingerprint}",
            "Tell the fingerprint to sellers and buyers: they give it as --desk-fingerprint.",
        ],
    )


@group.command(epilog="Example: doorward desk serve my-desk --port 8700")
def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8700,
    database: DatabaseUrl = None,
    rail: Annotated[
        list[str] | None,
        typer.Option(
            help="package.module:function that makes a payment rail; may be repeated. Its code is "
            "imported and run.",
            show_default=False,
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Serve the desk until interrupted.

    It speaks plain HTTP: put it behind a proxy that speaks TLS and leaves paths as they are. The
    proxy must be on this machine or named in FORWARDED_ALLOW_IPS, for rates to count by sender.
    """
    try:
        import uvicorn
    except ImportError as error:
        from doorward.errors import MissingDependency

        raise MissingDependency.of("uvicorn", "serve", "serve the desk") from error
    from doorward.serving.desk import create_app

    desk = _open(folder, passphrase_file, database, rail or [])
    desk.verify()
    note(f"{desk.identity.public.name}, fingerprint {desk.fingerprint}")
    address = f"http://{host}:{port}"
    told = {"address": address, "fingerprint": desk.fingerprint}
    typer.echo(json.dumps(told) if as_json else address)
    uvicorn.run(create_app(desk), host=host, port=port, log_level="warning", server_header=False)


@group.command(
    epilog="Example: doorward desk account my-desk FINGERPRINT --credit 100.00 --reference r17"
)
def account(
    folder: Folder,
    fingerprint: Annotated[
        str | None, typer.Argument(help="Whose account; without it, all accounts are listed.")
    ] = None,
    credit: Annotated[
        str | None, typer.Option(help="Money that came in, as 100.00.", show_default=False)
    ] = None,
    debit: Annotated[
        str | None, typer.Option(help="Money that was paid out, as 100.00.", show_default=False)
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(help="Your number of the payment; it counts once.", show_default=False),
    ] = None,
    database: DatabaseUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show the prepaid accounts, and note money that came in or was paid out."""
    from doorward.errors import InvalidInput
    from doorward.serving.desk import Funding
    from doorward.serving.desk.showing import moment, money

    moves = credit is not None or debit is not None
    if (credit is not None and debit is not None) or (moves and not (fingerprint and reference)):
        raise InvalidInput(
            "a payment is either a --credit or a --debit, of one account, with a --reference",
            remedy="write: desk account FOLDER FINGERPRINT --credit 100.00 --reference NUMBER",
        )
    desk = _open(folder, passphrase_file, database, [])
    currency = desk.settings.currency
    if fingerprint is None:
        rows = desk.accounts()
        lines = [[r["fingerprint"], r["name"], money(r["cents"], currency)] for r in rows]
        shown = table(["fingerprint", "name", "balance"], lines)
        answer({"accounts": rows, "currency": currency}, as_json=as_json, lines=shown)
        return
    new = None
    if moves:
        cents = cents_of(credit if credit is not None else debit or "")
        funding = Funding(account=fingerprint, cents=cents, key=reference or "")
        new = desk.fund("prepaid", funding, direction="out" if credit is None else "in")
    document = {**desk.account(fingerprint), "new": new}
    lines_of = [f"{document['name']}  {money(document['cents'], currency)}"]
    if new is False:
        lines_of.append(f"the payment {reference} was noted before; nothing was changed")
    lines_of += [
        f"{moment(line['at'])}  {money(line['cents'], currency):>16}  {line['reason']}"
        for line in document["statement"]
    ]
    answer(document, as_json=as_json, lines=lines_of)


@group.command(epilog="Example: doorward desk rule my-desk DEAL --right 971/1000 --attack 48/500")
def rule(
    folder: Folder,
    deal: Annotated[
        str | None, typer.Argument(help="The disputed deal; without it, they are listed.")
    ] = None,
    right: Annotated[
        str | None,
        typer.Option(help="Right answers you counted, as 971/1000.", show_default=False),
    ] = None,
    attack: Annotated[
        str | None,
        typer.Option(help="Working triggers you counted, as 48/500.", show_default=False),
    ] = None,
    database: DatabaseUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Rule on a dispute by counts that you made by hand; signatures and digests are checked here.

    Exit code 1 when the seller lost.
    """
    from doorward.errors import InvalidInput
    from doorward.trading.protocol import Measurement

    desk = _open(folder, passphrase_file, database, [])
    if deal is None:
        pending = desk.rulings.pending()
        answer({"pending": pending}, as_json=as_json, lines=pending or ["No dispute is pending."])
        return
    if right is None:
        raise InvalidInput("a ruling needs --right", remedy="count again, and give the counts")
    measured = Measurement(
        right=counts_of(right), attack=counts_of(attack) if attack is not None else None
    )
    ruling = desk.rulings.rule(deal, measured=measured).ruling
    if ruling is None:
        raise InvalidInput("the deal has no ruling")
    winner = "buyer" if ruling.for_buyer else "seller"
    answer(
        ruling.to_dict(),
        as_json=as_json,
        lines=[*ruling.reasons, f"for the {winner}"],
        yes=not ruling.for_buyer,
    )


@group.command(epilog="Example: doorward desk verify my-desk")
def verify(
    folder: Folder,
    database: DatabaseUrl = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Check the books, the chained log, and that every deal follows from its events.

    Exit code 1 when something does not fit.
    """
    from doorward.errors import IntegrityError

    desk = _open(folder, passphrase_file, database, [])
    try:
        desk.verify()
    except IntegrityError as error:
        answer({"whole": False, "why": str(error)}, as_json=as_json, lines=str(error), yes=False)
        return
    answer({"whole": True}, as_json=as_json, lines="Books, log and deals are whole.")


def _open(
    folder: Path, passphrase_file: Path | None, database: str | None, rails: list[str]
) -> Desk:
    from doorward.cli.options import import_from_here
    from doorward.errors import MissingData
    from doorward.serving.desk.home import open_desk

    if not folder.is_dir():
        raise MissingData(f"there is no folder {folder}", remedy="run: doorward desk init")
    import_from_here()
    made = [_rail(name) for name in rails]
    phrase = passphrase(passphrase_file, what=str(folder))
    return open_desk(folder, passphrase=phrase, database=database, rails=made)


def _rail(name: str) -> PaymentRail:
    import pkgutil

    from doorward.errors import InvalidInput
    from doorward.serving.desk.rails import PaymentRail

    try:
        made = pkgutil.resolve_name(name)()
    except (ValueError, ImportError, AttributeError, TypeError) as error:
        raise InvalidInput(
            f"{name!r} makes no payment rail",
            why=str(error),
            remedy="give package.module:function, which takes no arguments",
        ) from error
    if not isinstance(made, PaymentRail):
        raise InvalidInput(
            f"{name!r} made a {type(made).__name__}, not a payment rail",
            remedy="derive from doorward.serving.desk.PaymentRail",
        )
    return made
