"""``doorward watermark status``: what of a key has been opened, and how many proofs are left."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.watermark.group import KeyFile, group

if TYPE_CHECKING:
    from doorward.watermark import Claim
    from doorward.watermark.disclosure import Burned, Disclosure

__all__ = ["Ledger", "proofs", "status"]

Ledger = Annotated[
    Path | None,
    typer.Option(
        help="The ledger of opened triggers. Default: beside the key.", show_default=False
    ),
]


@group.command(epilog="Example: doorward watermark status mark.key --claim claim.json")
def status(
    key: KeyFile,
    claim: Annotated[
        Path | None, typer.Option(help="Your claim on the key, which says what a proof opens.")
    ] = None,
    burned: Ledger = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Show a key, what has been opened of it, and how many proofs it is still good for.

    Exit code 1 when none is left. Without --claim, lots are taken as large as in the ledger, or as
    in a claim made without options.
    """
    from doorward.errors import InvalidInput, MissingData
    from doorward.watermark import Claim, WatermarkKey
    from doorward.watermark.disclosure import BurnLedger
    from doorward.watermark.disclosure.burning import beside

    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    ledger = BurnLedger(burned or beside(key), opened)
    if burned is not None and not burned.exists():
        raise MissingData(f"there is no ledger {burned}", remedy="check the path")
    history = ledger.read() if ledger.path.exists() else None
    stated = None if claim is None else Claim.load(claim)
    if stated is not None and stated.statement.root != opened.commitment():
        raise InvalidInput("the claim is about another key", remedy="give the key's own claim")
    rule = _rule(stated, history, opened.n, opened.classes)
    lots = 0 if rule is None else rule.lots(opened.n)
    entries = () if history is None else history.entries
    left = max(lots - (0 if history is None else len(history.lots)), 0)
    if stated is not None and rule is not None:
        left = ledger.remaining(stated)
    document = {
        "key": str(key),
        **opened.parameters.to_dict(),
        "commitment": opened.commitment(),
        "ledger": str(ledger.path) if history is not None else None,
        "opening_size": None if rule is None else rule.size,
        "lots": lots,
        "spent": [] if history is None else list(history.lots),
        "openings": [entry.to_dict() for entry in entries],
        "remaining": left,
    }
    size = "does not say what a proof opens" if rule is None else f"opens {rule.size} per proof"
    lines = [
        f"{key}  {opened.n} triggers for {opened.classes} classes; "
        f"{'its claim' if stated else 'a claim'} {size}",
        f"beacon  {opened.parameters.beacon or 'none'}",
        f"ledger  {ledger.path if history else 'none: nothing has been opened on record'}",
    ]
    if entries:
        rows = [[str(entry.lot), entry.opened, entry.suspect] for entry in entries]
        lines.append(table(["lot", "opened", "suspect"], rows))
    answer(document, as_json=as_json, lines=[*lines, proofs(left)], yes=left > 0)


def _rule(claim: Claim | None, history: Burned | None, n: int, classes: int) -> Disclosure | None:
    from doorward.watermark.disclosure import Disclosure

    if claim is not None:
        return claim.statement.disclosure
    return Disclosure(size=history.size) if history else Disclosure.fitting(n, classes)


def proofs(left: int) -> str:
    """How many are left, as a sentence."""
    if left == 0:
        return "No public proof is left: mark the next model with a new key."
    return f"{left} public proof{'s are' if left > 1 else ' is'} left."
