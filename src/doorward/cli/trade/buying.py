"""``doorward trade deposit|trial|evaluate-report|pay|accept``: the buyer's way through a deal.

::

    doorward trade deposit 3f9a1c --consent
    doorward trade trial 3f9a1c --out digits.zip              # and digits.zip.listing.json
    doorward trade evaluate-report 3f9a1c --right 975/1000    # as doorward trade evaluate counted
    doorward trade pay 3f9a1c --out bought.key                # and bought.key.preimage
    doorward trade accept 3f9a1c --attack 12/500              # once it is unlocked and evaluated
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, answer
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

if TYPE_CHECKING:
    from doorward.bundles import PublicIdentity

__all__ = ["accept", "deposit", "evaluate_report", "pay", "trial"]


@group.command(
    epilog="Example: doorward trade deposit 3f9a1c --consent --desk https://desk.example "
    "--identity bob.key"
)
def deposit(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    consent: Annotated[
        bool,
        typer.Option(
            "--consent", help="You know that the trial obeys a hidden trigger of the seller's."
        ),
    ] = False,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Check the signed listing, and put the deposit into escrow.

    The deposit is part of the price. It is the seller's if you keep the trial and do not pay.
    """
    from doorward.errors import InvalidInput

    if not consent:
        raise InvalidInput(
            "the trial obeys a hidden trigger until it is unlocked",
            why="whoever knows the trigger controls its answers; do not put it to use",
            remedy="if you agree to try it, add --consent",
        )
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        name = find_deal(client, deal)["id"]
        seller = _signed(client.get(f"/v1/offers/{name}", sign=False)["document"], name)
        state = client.post(f"/v1/deals/{name}/deposit", {"consent": True})
    lines = [*shown(state), f"seller    {seller.name}, {seller.fingerprint}"]
    answer(state, as_json=as_json, lines=lines)


@group.command(
    epilog="Example: doorward trade trial 3f9a1c --out digits.zip --desk "
    "https://desk.example --identity bob.key"
)
def trial(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    unpack: Annotated[
        Path | None, typer.Option(help="Unpack it into this new folder as well.")
    ] = None,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Download the trial, checked against the signed listing. Again is harmless.

    The signed listing is written to OUT.listing.json, for doorward trade evaluate and unlock.
    """
    from doorward.bundles import write_document
    from doorward.errors import InvalidInput

    beside = out.with_name(f"{out.name}.listing.json")
    if unpack is not None and unpack.exists():
        raise InvalidInput(f"{unpack} exists already", remedy="choose another folder")
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        state = find_deal(client, deal)
        path = f"/v1/deals/{state['id']}/goods/trial"
        client.download(path, out, sha256=state["listing"]["trial"])
        document = client.get(f"/v1/offers/{state['id']}", sign=False)["document"]
        _signed(document, state["id"])
        write_document(beside, document)
        state = client.get(f"/v1/deals/{state['id']}")
    if unpack is not None:
        from doorward.data.archives import unpack as unpack_archive

        unpack_archive(out, unpack)
    answer(
        {**state, "file": str(out), "listing_file": str(beside)},
        as_json=as_json,
        lines=[*shown(state), f"file      {out}", f"listing   {beside}"],
    )


@group.command(
    "evaluate-report",
    epilog="Example: doorward trade evaluate-report 3f9a1c --right 975/1000 --desk "
    "https://desk.example --identity bob.key",
)
def evaluate_report(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    right: Annotated[str, typer.Option(help="Right answers of the trial, as 975/1000.")],
    remark: Annotated[str, typer.Option(help="In your words.")] = "",
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """File what you counted on the trial, signed. Exit code 1 when it refutes the claim."""
    from doorward.trading.protocol import Claim, Finding, sign_report

    counts = counts_of(right)
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, who):
        state = find_deal(client, deal)
        finding = Finding(deal=state["id"], subject="trial", counts=counts, remark=remark)
        document = sign_report(finding, who)
        state = client.post(f"/v1/deals/{state['id']}/report", {"document": document})
    claim, alpha = Claim.from_dict(state["listing"]["claim"]), state["listing"]["terms"]["alpha"]
    refuted = claim.refuted_by(counts, alpha=alpha)
    verdict = "refutes the claim: dispute it" if refuted else "does not refute the claim"
    answer(
        {**state, "refuted": refuted},
        as_json=as_json,
        lines=[*shown(state), f"counted   {counts}, which {verdict}"],
        yes=not refuted,
    )


@group.command(
    epilog="Example: doorward trade pay 3f9a1c --out sealed.key --desk https://desk.example "
    "--identity bob.key"
)
def pay(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    out: Annotated[Path, typer.Option(help="The sealed key to write.")],
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Pay the rest; payment and release of the key are one step. Again only fetches the key.

    Writes the sealed key to --out and the preimage of the hash lock to OUT.preimage.
    """
    from doorward.errors import IntegrityError
    from doorward.files import write_bytes
    from doorward.trading.protocol import hash_lock

    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, _):
        state = find_deal(client, deal)
        path = f"/v1/deals/{state['id']}"
        if not state.get("released"):
            state = client.post(f"{path}/pay")
        preimage = bytes.fromhex(state["preimage"])
        if hash_lock(preimage) != state["listing"]["lock"]:
            raise IntegrityError(
                "the preimage does not open the hash lock", remedy="dispute the deal"
            )
        beside = out.with_name(f"{out.name}.preimage")
        write_bytes(beside, preimage, private=True)
        client.download(f"{path}/goods/key", out, sha256=state["listing"]["key"])
    answer(
        {**state, "key": str(out), "preimage_file": str(beside)},
        as_json=as_json,
        lines=[*shown(state), f"sealed    {out}", f"preimage  {beside}"],
    )


@group.command(
    epilog="Example: doorward trade accept 3f9a1c --attack 12/500 --desk "
    "https://desk.example --identity bob.key"
)
def accept(
    deal: DealName,
    desk: DeskUrl,
    identity: IdentityFile,
    attack: Annotated[
        str | None,
        typer.Option(
            help="Triggered images that still gave the target after unlocking, as 12/500.",
            show_default=False,
        ),
    ] = None,
    remark: Annotated[str, typer.Option(help="In your words.")] = "",
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Accept the unlocked model: the money goes to the seller. Not possible on a failed test."""
    from doorward.trading.protocol import Finding, sign_report

    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, who):
        state = find_deal(client, deal)
        content: dict[str, Any] = {}
        if attack is not None:
            counts = counts_of(attack)
            finding = Finding(deal=state["id"], subject="unlocked", counts=counts, remark=remark)
            content = {"document": sign_report(finding, who)}
        state = client.post(f"/v1/deals/{state['id']}/accept", content)
    answer(state, as_json=as_json, lines=shown(state))


def _signed(document: dict[str, Any], deal: str) -> PublicIdentity:
    """Who signed the listing that a desk shows, which must be the one that the deal is named by."""
    from doorward.bundles import PublicIdentity
    from doorward.errors import IntegrityError
    from doorward.trading.protocol import check_listing

    seller = PublicIdentity.from_dict(document["signer"])
    seller.check()
    if check_listing(document, seller).digest() != deal:
        raise IntegrityError("the desk shows another listing than the one it names")
    return seller
