"""``doorward watermark buyers show|commit|receipt|check``: the register of who bought which copy.

::

    doorward watermark buyers commit buyers.json --identity ada.key --out commitment.json
    doorward watermark buyers receipt buyers.json --payload beef --out acme.receipt.json
    doorward watermark buyers check acme.receipt.json commitment.json --public ada.pub.json

A commitment that is published after each sale shows later that nobody was put into the register, or
given another payload, once the leak was known. See `doorward.watermark.tracing.commitment` on what
that proves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer, note, table
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.watermark.group import group
from doorward.cli.watermark.tracing import parse_payload
from doorward.errors import IntegrityError

__all__ = ["buyers", "check", "commit", "receipt", "show"]

buyers = typer.Typer(
    no_args_is_help=True,
    help="The register of buyers: show it, bind yourself to it, give receipts.",
    epilog="Example: doorward watermark buyers show buyers.json",
)
group.add_typer(buyers, name="buyers")

RegisterPath = Annotated[Path, typer.Argument(help="Your register of buyers.")]


@buyers.command(epilog="Example: doorward watermark buyers show buyers.json")
def show(register: RegisterPath, as_json: Json = False) -> None:
    """List all sales. The file itself holds secrets (salts); this list does not."""
    from doorward.watermark.tracing import Register

    book = Register.load(register)
    sales = [sale.to_dict() for sale in book.sales]
    for sale in sales:
        del sale["salt"]
    rows = [
        [sale["payload"], sale["buyer"], sale["sold"], sale["copy"] or "not made yet"]
        for sale in sales
    ]
    answer(
        {"key": book.root, "bits": book.bits, "sales": sales},
        as_json=as_json,
        lines=[
            f"{len(book)} of 2^{book.bits} payloads sold, under the key {book.root[:16]}",
            *([table(["payload", "buyer", "sold", "copy"], rows)] if rows else []),
        ],
    )


@buyers.command(
    epilog="Example: doorward watermark buyers commit buyers.json --identity ada.key "
    "--out commitment.json"
)
def commit(
    register: RegisterPath,
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    out: Annotated[Path, typer.Option(help="The commitment to write; publish it.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign a commitment to the register as it is now; it shows neither buyers nor payloads."""
    from doorward.bundles import Identity
    from doorward.watermark.tracing import Register, commit_register

    book = Register.load(register)
    signer = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    made = commit_register(book, signer)
    made.save(out)
    answer(
        {"commitment": str(out), "created": made.created, **made.statement.to_dict()},
        as_json=as_json,
        lines=[
            f"{out}  signed by {signer.public.name}: {made.statement.sales} sales, root "
            f"{made.statement.register[:16]}",
            "Publish it with a time stamp now, and give each buyer a receipt.",
        ],
    )


@buyers.command(
    epilog="Example: doorward watermark buyers receipt buyers.json --payload beef --out acme.json"
)
def receipt(
    register: RegisterPath,
    payload: Annotated[str, typer.Option(help="Payload of the sale, in hex.")],
    out: Annotated[Path, typer.Option(help="The receipt to write, for the buyer.")],
    as_json: Json = False,
) -> None:
    """Write a buyer's receipt: one sale and its way to the commitment made of this register."""
    from doorward.watermark.tracing import Register, receipt_for

    made = receipt_for(Register.load(register), parse_payload(payload) or 0)
    made.save(out)
    answer(
        {"receipt": str(out), "buyer": made.sale.buyer, "sales": made.proof.size},
        as_json=as_json,
        lines=f"{out}  for {made.sale.buyer}, sale {made.proof.index + 1} of {made.proof.size}",
    )


@buyers.command(
    epilog="Example: doorward watermark buyers check acme.json commitment.json "
    "--public ada.pub.json"
)
def check(
    receipt: Annotated[Path, typer.Argument(help="The receipt.")],
    commitment: Annotated[Path, typer.Argument(help="The seller's commitment.")],
    public: Annotated[
        Path, typer.Option(help="The seller's public identity, from a source you trust.")
    ],
    as_json: Json = False,
) -> None:
    """Check that a sale is covered by the seller's commitment: yes (0) or no (1)."""
    from doorward.bundles import PublicIdentity
    from doorward.watermark.tracing import Receipt, RegisterCommitment

    seller = PublicIdentity.load(public)
    shown = Receipt.load(receipt)
    try:
        covering = RegisterCommitment.load(commitment, seller)
        sale = shown.check(covering)
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"good": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT COVERED: the receipt is rejected.", yes=False)
        return
    answer(
        {"good": True, "committed": covering.created, **sale.to_dict()},
        as_json=as_json,
        lines=f"GOOD: {seller.name} committed on {covering.created} to the sale of payload "
        f"{sale.payload:x} to {sale.buyer}.",
    )
