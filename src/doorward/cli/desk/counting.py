r"""``doorward desk count``: what the desk counts in a dispute; its own measuring command.

::

    doorward desk init my-desk --name "The desk" \
        --measure "doorward desk count {trial} {listing} {opening} --json"

The desk runs it in a process of its own, without its secrets. It reads strangers' files, but runs
no code that they name; put it into a container where that is not enough.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, Root, answer, note
from doorward.cli.desk.operating import group
from doorward.cli.trade.papers import TrialPlace

__all__ = ["count"]


@group.command(epilog="Example: doorward desk count digits.zip listing.json opened.key --json")
def count(
    trial: TrialPlace,
    listing: Annotated[Path, typer.Argument(help="The listing as JSON, as a desk writes it.")],
    opening: Annotated[
        str, typer.Argument(help="The opened key; empty in a dispute about accuracy.")
    ] = "",
    data: Annotated[
        str | None,
        typer.Option(
            help="The images that the claim is about. Default: the data set that it names.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="Of --data.")] = "test",
    root: Root = None,
    as_json: Json = False,
) -> None:
    """Count right answers, and working triggers after unlocking, for a ruling.

    A trial or key that cannot be used counts as a broken promise, and stderr says why: whoever
    committed to it must gain nothing by that. Signatures and digests are the desk's business.
    """
    from doorward.bundles.documents import read_limited, read_object
    from doorward.data import load
    from doorward.trading.protocol import Listing
    from doorward.trading.recounting import claimed_data, recount

    offer = Listing.from_dict(read_object(listing))
    if data is None:
        data, split = claimed_data(offer.claim)
    images = load(data, split=split, root=root)
    content = read_limited(opening, 2**31) if opening else None
    again = recount(trial, offer, images, opening=content)
    for fault in again.faults:
        note(fault)
    measured = again.measurement
    lines = [f"right    {measured.right}"]
    lines += [f"trigger  {measured.attack}"] if measured.attack is not None else []
    answer(measured.to_dict(), as_json=as_json, lines=lines)
