"""``doorward trade register|list``: open an account, and put a model on offer.

::

    doorward trade register
    doorward trade list digits.trial sealed.key opened.key --title "Digits" --deposit 5.00 ...
"""

from __future__ import annotations

import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.keys import PassphraseFile
from doorward.cli.trade.group import group
from doorward.cli.trade.options import (
    DeskFingerprint,
    DeskUrl,
    IdentityFile,
    cents_of,
    desk_client,
    seconds_of,
    shown,
)

if TYPE_CHECKING:
    from pydantic import JsonValue

    from doorward.bundles import PublicIdentity

__all__ = ["list_model", "register"]


@group.command(epilog="Example: doorward trade register --desk URL --identity bob.key")
def register(
    desk: DeskUrl,
    identity: IdentityFile,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Open an account at a desk; again is harmless."""
    with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, who):
        account = client.register()
    answer(
        {**account, "desk": client.public.fingerprint},
        as_json=as_json,
        lines=[
            f"{who.public.name} ({who.public.fingerprint}) has an account.",
            f"The desk calls itself {client.public.name}; its fingerprint is",
            client.public.fingerprint,
            "Money comes onto the account by the desk's operator or its payment provider.",
        ],
    )


@group.command(
    "list",
    epilog="Example: doorward trade list digits.trial sealed.key opened.key --title Digits "
    "--deposit 5.00 --final 45.00 --data 'digits test' --accuracy 0.97 --attack-bound "
    "0.12 --desk https://desk.example --identity ada.key",
)
def list_model(
    trial: Annotated[Path, typer.Argument(help="The trial bundle: a folder, or one file.")],
    key: Annotated[Path, typer.Argument(help="The sealed key.", exists=True, dir_okay=False)],
    opening: Annotated[
        Path,
        typer.Argument(
            help="The opened key. It stays with you; its digest commits you to it, and in a "
            "dispute you show it to the desk.",
            exists=True,
            dir_okay=False,
        ),
    ],
    desk: DeskUrl,
    identity: IdentityFile,
    title: Annotated[str, typer.Option(help="One line for the list of offers.")],
    deposit: Annotated[str, typer.Option(help="For the trial, as 5.00; part of the price.")],
    final: Annotated[str, typer.Option(help="The rest of the price, as 45.00.")],
    data: Annotated[str, typer.Option(help="What the claim is about, as 'cifar10 test'.")],
    accuracy: Annotated[float, typer.Option(help="Claimed: at least this share is right.")],
    attack_bound: Annotated[
        float, typer.Option(help="Promised: unlocked, the trigger works on at most this share.")
    ],
    attack_trials: Annotated[
        int, typer.Option(help="Triggered images that the acceptance test needs.")
    ] = 500,
    unlocked_accuracy: Annotated[
        float | None, typer.Option(help="Claimed after unlocking. Default: as --accuracy.")
    ] = None,
    bond: Annotated[str, typer.Option(help="Your own stake, lost with a dispute.")] = "0.00",
    offered: Annotated[str, typer.Option(help="How long the offer stands.")] = "30d",
    trial_time: Annotated[str, typer.Option(help="From deposit to final payment.")] = "14d",
    acceptance_time: Annotated[str, typer.Option(help="From payment to acceptance.")] = "7d",
    answer_time: Annotated[str, typer.Option(help="For you to answer a dispute.")] = "7d",
    alpha: Annotated[float, typer.Option(help="How rare a count must be to refute you.")] = 0.01,
    buyer: Annotated[
        Path | None,
        typer.Option(
            help="Public identity of the only buyer; needed when the key is sealed to it."
        ),
    ] = None,
    card: Annotated[
        Path | None,
        typer.Option(
            help="The model card: a JSON object. Default: what the trial's bundle says of itself.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    preimage: Annotated[
        Path | None,
        typer.Option(help="The 32 bytes behind the hash lock. Default: KEY.preimage, made if new."),
    ] = None,
    commitments: Annotated[
        Path | None,
        typer.Option(
            help="Your signed commitments to masks, trigger and target. Default: "
            "KEY.commitments.json, if doorward trade seal left it there.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The signed listing to write; when it exists, it is continued as it is."),
    ] = None,
    desk_fingerprint: DeskFingerprint = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign a listing, put it up, and leave trial, sealed key and preimage with the desk.

    Says openly that the trial obeys a hidden trigger: there is no other kind of listing. When it
    was interrupted, the same command goes on: with the listing in --out (default:
    KEY.listing.json), and what the desk is still missing.
    """
    import tempfile

    from doorward.bundles import PublicIdentity
    from doorward.bundles.documents import read_object
    from doorward.files import sha256_file, write_json
    from doorward.trading.protocol import Claim, Listing, Terms, hash_lock, sign_listing
    from doorward.trading.protocol.documents import check_listing

    place = out or key.with_name(f"{key.name}.listing.json")
    lock = _preimage(preimage or key.with_name(f"{key.name}.preimage"))
    now = int(time.time())
    plan = {
        "currency": "EUR",
        "deposit": cents_of(deposit),
        "final": cents_of(final),
        "bond": cents_of(bond),
        "offered_until": now + seconds_of(offered),
        "trial_seconds": seconds_of(trial_time),
        "acceptance_seconds": seconds_of(acceptance_time),
        "answer_seconds": seconds_of(answer_time),
        "attack_bound": attack_bound,
        "attack_trials": attack_trials,
        "alpha": alpha,
    }
    with tempfile.TemporaryDirectory() as folder:
        bundle = _one_file(trial, Path(folder))
        with desk_client(desk, desk_fingerprint, identity, passphrase_file) as (client, who):
            if place.exists():
                note(f"going on with {place}; the options of this call are not used")
                document = read_object(place)
            else:
                plan["currency"] = client.about["settings"]["currency"]
                listing = Listing(
                    serial=secrets.token_hex(16),
                    seller=who.public.fingerprint,
                    buyer=PublicIdentity.load(buyer).fingerprint if buyer else None,
                    title=title,
                    card=read_object(card) if card else _own_card(trial),
                    claim=Claim(data=data, accuracy=accuracy, unlocked_accuracy=unlocked_accuracy),
                    terms=Terms.from_dict(plan),
                    trial=sha256_file(bundle),
                    trial_bytes=bundle.stat().st_size,
                    key=sha256_file(key),
                    lock=hash_lock(lock.read_bytes()),
                    opening=sha256_file(opening),
                    commitments=_commitments(commitments, key, who.public),
                )
                document = sign_listing(listing, who)
                write_json(place, document)
            check_listing(document, who.public)
            state = client.post("/v1/deals", document)
            goods = {"trial": bundle, "key": key, "preimage": lock}
            state = client.get(f"/v1/deals/{state['id']}")
            for artefact, file in goods.items():
                if artefact not in state["stocked"]:
                    state = client.upload(f"/v1/deals/{state['id']}/goods/{artefact}", file)
    answer(
        {**state, "listing_file": str(place), "opening": str(opening)},
        as_json=as_json,
        lines=[
            *shown(state),
            f"Keep {opening}: without it you lose every dispute.",
        ],
    )


def _one_file(trial: Path, folder: Path) -> Path:
    from doorward.errors import MissingData
    from doorward.serving.desk.packing import pack

    if trial.is_dir():
        pack(trial, folder / "trial.zip")
        return folder / "trial.zip"
    if not trial.is_file():
        raise MissingData(f"there is no trial {trial}", remedy="check the path")
    return trial


def _preimage(place: Path) -> Path:
    """The file with the preimage, made with fresh bytes if it is not there."""
    from doorward.files import write_bytes

    if not place.exists():
        write_bytes(place, secrets.token_bytes(32), private=True)
    return place


def _own_card(trial: Path) -> dict[str, JsonValue]:
    """What a bundle says of itself, as far as a buyer can use it; nothing of another trial."""
    from doorward.bundles import read_card

    if not (trial / "model.json").is_file():
        return {}
    said = read_card(trial).to_dict()
    shown = ("architecture", "classes", "input_shape", "licence", "metrics", "weights_bytes")
    return {name: said[name] for name in shown if said[name]}


def _commitments(file: Path | None, key: Path, seller: PublicIdentity) -> dict[str, str]:
    """What the seller committed to, from the statement beside the key."""
    from doorward.bundles.documents import read_object
    from doorward.trading.keys import read_statement

    place = file or key.with_name(f"{key.name}.commitments.json")
    if file is None and not place.is_file():
        return {}
    return read_statement(read_object(place), seller).commitments()
