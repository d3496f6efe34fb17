"""What the commands of a trade share: desk, identity, and how money, time and counts are written.

>>> cents_of("45.00"), cents_of("3")
(4500, 300)
>>> seconds_of("14d"), seconds_of("90m")
(1209600, 5400)
>>> counts_of("48/500").successes
48
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.keys import passphrase
from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from doorward.bundles import Identity
    from doorward.serving.desk.client import DeskClient
    from doorward.trading.protocol import Counts

__all__ = [
    "DealName",
    "DeskFingerprint",
    "DeskUrl",
    "IdentityFile",
    "cents_of",
    "counts_of",
    "desk_client",
    "find_deal",
    "seconds_of",
    "shown",
]

DeskUrl = Annotated[str, typer.Option("--desk", envvar="DOORWARD_DESK", help="The desk's URL.")]
DeskFingerprint = Annotated[
    str | None,
    typer.Option(
        "--desk-fingerprint",
        envvar="DOORWARD_DESK_FINGERPRINT",
        help="The desk's fingerprint, as you were told it; another desk is refused.",
        show_default=False,
    ),
]
IdentityFile = Annotated[
    Path,
    typer.Option(
        "--identity", envvar="DOORWARD_IDENTITY", help="Your sealed identity (doorward keys new)."
    ),
]
DealName = Annotated[str, typer.Argument(help="The deal: its id, or enough of its beginning.")]

_UNITS = {"d": 86400, "h": 3600, "m": 60, "s": 1}


def cents_of(amount: str) -> int:
    """An amount as ``45.00`` or ``45``, in cents.

    Raises:
        InvalidInput: it is written differently; nothing is guessed about money.
    """
    match = re.fullmatch(r"([0-9]{1,11})(?:\.([0-9]{2}))?", amount)
    if match is None:
        raise InvalidInput(f"{amount!r} is no amount of money", remedy="write it as 45.00")
    return int(match[1]) * 100 + int(match[2] or 0)


def seconds_of(span: str) -> int:
    """A time span as ``14d``, ``12h``, ``30m`` or ``90s``, in seconds.

    Raises:
        InvalidInput: it is written differently, or is nothing.
    """
    match = re.fullmatch(r"([0-9]{1,6})([dhms])", span)
    if match is None or int(match[1]) == 0:
        raise InvalidInput(
            f"{span!r} is no span of time", remedy="write it as 14d, 12h, 30m or 90s"
        )
    return int(match[1]) * _UNITS[match[2]]


def counts_of(counts: str) -> Counts:
    """Counts as ``48/500``.

    Raises:
        InvalidInput: they are written differently, or impossible.
    """
    from doorward.trading.protocol import Counts

    match = re.fullmatch(r"([0-9]{1,8})/([0-9]{1,8})", counts)
    if match is None:
        raise InvalidInput(f"{counts!r} are no counts", remedy="write them as 48/500")
    return Counts.from_dict({"successes": int(match[1]), "trials": int(match[2])})


@contextmanager
def desk_client(
    url: str, fingerprint: str | None, identity: Path, passphrase_file: Path | None
) -> Iterator[tuple[DeskClient, Identity]]:
    """A client that signs as the identity in a file, and that identity."""
    from doorward.bundles import Identity
    from doorward.serving.desk.client import DeskClient

    who = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    with DeskClient(url, who, desk=fingerprint) as client:
        yield client, who


def find_deal(client: DeskClient, name: str) -> dict[str, Any]:
    """The deal of that id, as the caller may see it; a prefix will do for offers and own deals.

    Raises:
        InvalidInput: it is no id, or the prefix fits none or several.
    """
    if re.fullmatch(r"[0-9a-f]{64}", name):
        deal: dict[str, Any] = client.get(f"/v1/deals/{name}")
        return deal
    if not re.fullmatch(r"[0-9a-f]{6,63}", name):
        raise InvalidInput(f"{name!r} is no deal", remedy="give its id, or its first digits (6 up)")
    offered = client.get("/v1/offers?limit=100", sign=False)
    known: dict[str, dict[str, Any]] = {deal["id"]: deal for deal in offered}
    known.update({deal["id"]: deal for deal in client.get("/v1/deals")})
    fits = [deal for id_, deal in known.items() if id_.startswith(name)]
    if len(fits) != 1:
        raise InvalidInput(
            f"{len(fits)} deals begin with {name}", remedy="give more of the id, or all of it"
        )
    return fits[0]


def shown(deal: dict[str, Any]) -> list[str]:
    """A deal in a few lines for the terminal."""
    from doorward.serving.desk.showing import moment, money

    listing, terms = deal["listing"], deal["listing"]["terms"]
    currency, price = terms["currency"], terms["deposit"] + terms["final"]
    lines = [
        f"deal      {deal['id']}",
        f"model     {listing['title']}",
        f"price     {money(price, currency)}, of it {money(terms['deposit'], currency)} deposit",
        f"claim     accuracy {listing['claim']['accuracy']:.2%} on {listing['claim']['data']}",
        f"stage     {deal['stage']}" + (f", until {moment(deal['due'])}" if deal["due"] else ""),
    ]
    if "role" in deal:
        lines.append(f"you       {deal['role']}, so far {money(deal['net'], currency)}")
        lines.append(f"key       {'released' if deal['released'] else 'held back'}")
        if deal["ruling"]:
            lines += [f"ruling    {reason}" for reason in deal["ruling"]["reasons"]]
    return lines
