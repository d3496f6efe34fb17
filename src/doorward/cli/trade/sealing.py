r"""``doorward trade receiver|seal``: a key for one buyer, which only he can open.

::

    doorward trade receiver --identity bob.key --out bob.receiver.json          # the buyer
    doorward trade seal digits.trial digits.trial.lock --buyer bob.receiver.json \
        --identity ada.key --out sealed.key                                     # the seller
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.trade.group import group
from doorward.cli.trade.options import IdentityFile
from doorward.cli.trade.papers import LicenceFile, TrialPlace, licence_text

__all__ = ["receiver", "seal"]


@group.command(epilog="Example: doorward trade receiver --identity bob.key --out bob.receiver.json")
def receiver(
    identity: IdentityFile,
    out: Annotated[Path, typer.Option(help="The file to send to the seller.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Publish the encryption key of your identity, signed by it, so that keys can be sealed to it.

    Nothing secret is in the file, and nothing new has to be kept: the key follows from your
    identity.
    """
    from doorward.bundles import Identity, write_document
    from doorward.trading import publish

    who = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    document = publish(who)
    write_document(out, document)
    answer(
        {"receiver": str(out), "fingerprint": who.public.fingerprint, **document["content"]},
        as_json=as_json,
        lines=[
            f"{out}  the encryption key of {who.public.name}: send it to the seller",
            f"fingerprint  {who.public.fingerprint}",
        ],
    )


@group.command(
    epilog="Example: doorward trade seal digits.trial digits.trial.lock --buyer bob.receiver.json "
    "--identity ada.key --out sealed.key"
)
def seal(
    trial: TrialPlace,
    secret: Annotated[Path, typer.Argument(help="The folder with masks and trigger.")],
    identity: IdentityFile,
    out: Annotated[Path, typer.Option(help="The sealed key to write.")],
    licence: LicenceFile = None,
    buyer: Annotated[
        Path | None,
        typer.Option(
            help="The buyer's file from doorward trade receiver. Without it, whoever has the "
            "preimage can open the key."
        ),
    ] = None,
    mark: Annotated[
        bool, typer.Option("--mark/--no-mark", help="Mark the masks with the buyer's name.")
    ] = True,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a buyer's key, commit to it, and seal it for the buyer under a hash lock.

    Beside OUT it writes OUT.preimage (the 32 bytes that release the key: the desk's, until it is
    paid), OUT.opened (what is inside: yours, shown only in a dispute) and OUT.commitments.json
    (signed, to ship with the trial). With --mark the masks carry a change of one per cent that
    follows from your identity and the buyer's, so that a leaked key names its buyer.
    """
    from doorward.bundles import Identity, write_document
    from doorward.bundles.documents import read_object
    from doorward.errors import InvalidInput
    from doorward.files import write_bytes
    from doorward.trading import MaskBank, OpenedKey, Receiver, seal_unlock
    from doorward.trading.keys import buyer_code, commitment_statement, marked, weights_digest
    from doorward.trading.trials import open_trial
    from doorward.triggers import Backdoor

    beside: dict[str, Path] = {
        name: out.with_name(f"{out.name}.{name}")
        for name in ("preimage", "opened", "commitments.json")
    }
    for place in (out, *beside.values()):
        if place.exists():
            raise InvalidInput(
                f"{place} exists already",
                why="a key that is overwritten may be the one that was sold",
                remedy="choose another --out",
            )
    goods = open_trial(trial, trust_factory=trust_factory)
    model, text = goods.model, licence_text(licence, goods)
    bank, backdoor = MaskBank.load(secret / "masks.bank"), Backdoor.load(secret / "backdoor")
    to = Receiver.of(read_object(buyer)) if buyer else None
    who = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    if to is not None and mark:
        code = buyer_code(who.derive("trade marks"), weights_digest(model), to.identity.fingerprint)
        bank = marked(bank, code)
    fingerprint = to.identity.fingerprint if to else None
    opened = OpenedKey.new(model, bank, backdoor, licence=text, buyer=fingerprint)
    preimage = secrets.token_bytes(32)
    document = seal_unlock(opened, seller=who, buyer=to, preimage=preimage)
    write_bytes(beside["opened"], opened.to_bytes(), private=True)
    write_bytes(beside["preimage"], preimage, private=True)
    write_document(beside["commitments.json"], commitment_statement(opened, who))
    write_document(out, document)
    places: dict[str, Any] = {"sealed": str(out)}
    places |= {name.partition(".")[0]: str(place) for name, place in beside.items()}
    answer(
        {
            **places,
            "buyer": fingerprint,
            "marked": to is not None and mark,
            "opening": opened.digest(),
            "lock": document["content"]["lock"],
            "commitments": opened.commitments(),
        },
        as_json=as_json,
        lines=[
            f"{out}  sealed for {to.identity.name if to else 'whoever has the preimage'}",
            f"{beside['preimage']}  opens the hash lock: leave it with the desk",
            f"{beside['opened']}  the opened key: keep it; without it you lose every dispute",
            f"{beside['commitments.json']}  commitments: ship them with the trial",
        ],
    )
