"""``doorward watermark stamp-request|witness``: let somebody neutral see when a claim was made."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.watermark.group import group
from doorward.errors import InvalidInput

__all__ = ["moment", "stamp_request", "witness"]

ClaimFile = Annotated[Path, typer.Argument(help="The claim.")]


@group.command(
    "stamp-request",
    epilog="Example: doorward watermark stamp-request claim.json --out claim.tsq",
)
def stamp_request(
    claim: ClaimFile,
    out: Annotated[Path, typer.Option(help="The time-stamp query to write (RFC 3161, DER).")],
    as_json: Json = False,
) -> None:
    """Write a query for a time-stamp authority: it holds a hash of the claim, nothing else.

    Post it to an authority that courts know, and keep the answer beside the claim:

    curl -H "Content-Type: application/timestamp-query" --data-binary @claim.tsq URL > claim.tsr
    """
    from doorward.files import write_bytes
    from doorward.watermark import Claim
    from doorward.watermark.disputes import claim_digest
    from doorward.watermark.disputes import stamp_request as make_request

    loaded = Claim.load(claim)
    loaded.check(loaded.signer)
    write_bytes(out, make_request(loaded))
    answer(
        {"request": str(out), "sha256": claim_digest(loaded)},
        as_json=as_json,
        lines=[
            f"{out}  asks for a time stamp of {claim} (SHA-256 {claim_digest(loaded)[:16]}...)",
            'Post it as "application/timestamp-query" to a time-stamp authority, and keep the '
            "answer (claim.tsr).",
        ],
    )


@group.command(
    epilog="Example: doorward watermark witness claim.json --identity notary.key --out seen.json"
)
def witness(
    claim: ClaimFile,
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    out: Annotated[Path, typer.Option(help="The signed statement to write.")],
    seen: Annotated[
        str | None,
        typer.Option(
            help="When you saw it (ISO 8601, with a time zone). Default: now.", show_default=False
        ),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """State as a neutral witness that you saw this claim, and when.

    For a notary; or for whoever has checked that the claim's hash stands in a dated public place.
    """
    from doorward.bundles import Identity, write_document
    from doorward.watermark import Claim
    from doorward.watermark.disputes import witness_claim

    loaded = Claim.load(claim)
    loaded.check(loaded.signer)
    when = None if seen is None else moment(seen, "--seen")
    signer = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    paper = witness_claim(loaded, signer, seen=when)
    write_document(out, paper)
    answer(
        {"paper": str(out), "witness": signer.public.name, "seen": paper["created"]},
        as_json=as_json,
        lines=f"{out}  {signer.public.name} saw {loaded.signer.name}'s claim at {paper['created']}",
    )


def moment(text: str, what: str) -> datetime:
    """A moment in ISO 8601 with its time zone.

    Raises:
        InvalidInput: it is none.

    >>> moment("2026-01-01T00:00:00Z", "--seen").isoformat()
    '2026-01-01T00:00:00+00:00'
    """
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(
            f"{what} is {text!r:.60}", why=str(error), remedy="write it like 2026-01-01T00:00:00Z"
        ) from error
    if parsed.tzinfo is None:
        raise InvalidInput(f"{what} has no time zone", remedy=f"write {text}Z for UTC")
    return parsed
