r"""``doorward trade unlock``: open a sealed key, and write the unlocked model.

::

    doorward trade unlock digits.zip bought.key --listing digits.zip.listing.json \
        --identity bob.key --out digits.model                    # from a desk
    doorward trade unlock digits.trial sealed.key --seller ada.pub.json --identity bob.key \
        --commitments sealed.key.commitments.json --out digits.model          # without one
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.trade.group import group
from doorward.cli.trade.papers import (
    CommitmentsFile,
    LicenceFile,
    ListingFile,
    SellerFile,
    TrialPlace,
    licence_text,
    read_commitments,
    read_listing,
)

if TYPE_CHECKING:
    from doorward.trading import OpenedKey
    from doorward.trading.trials import Trial

__all__ = ["unlock"]


@group.command(
    epilog="Example: doorward trade unlock digits.zip bought.key --listing digits.zip.listing.json "
    "--identity bob.key --out digits.model"
)
def unlock(
    trial: TrialPlace,
    key: Annotated[Path, typer.Argument(help="The sealed key.")],
    out: Annotated[
        Path,
        typer.Option(help="The unlocked model: a bundle, or an .onnx file for masks that stay."),
    ],
    seller: SellerFile = None,
    listing: ListingFile = None,
    identity: Annotated[
        Path | None, typer.Option(envvar="DOORWARD_IDENTITY", help="Your sealed identity.")
    ] = None,
    licence: LicenceFile = None,
    preimage: Annotated[
        Path | None,
        typer.Option(
            help="The 32 bytes that were released on payment. Default: KEY.preimage, if it is "
            "there.",
            show_default=False,
        ),
    ] = None,
    commitments: CommitmentsFile = None,
    opened: Annotated[
        Path | None,
        typer.Option(help="Where to keep the opened key. Default: OUT.opened.", show_default=False),
    ] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Open a sealed key and write the unlocked model, without data or training.

    Refuses a key for another model, licence or buyer, one that was changed, and one that is not
    what the seller committed to. Masks that fold give a bundle of the same architecture and speed.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.bundles.documents import read_limited, read_object
    from doorward.errors import IntegrityError, InvalidInput
    from doorward.files import write_bytes
    from doorward.trading import open_unlock
    from doorward.trading.trials import open_trial

    promised: dict[str, str] = {}
    opening = None
    if listing is not None:
        offer, public = read_listing(listing, seller)
        promised, opening = dict(offer.commitments), offer.opening
    elif seller is not None:
        public = PublicIdentity.load(seller)
    else:
        raise InvalidInput("whose key is it?", remedy="give --listing, or --seller")
    document = read_object(key)
    beside = key.with_name(f"{key.name}.preimage")
    released = preimage or (beside if beside.is_file() else None)
    secret = read_limited(released, 64) if released else None
    goods = open_trial(trial, trust_factory=trust_factory)
    text = licence_text(licence, goods)
    promised |= read_commitments(commitments, public, goods, text)
    who = None
    if identity is not None:
        who = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    inside = open_unlock(
        document,
        seller=public,
        trial=goods.model,
        licence=text,
        buyer=who,
        preimage=secret,
        commitments=promised or None,
    )
    if opening is not None and inside.digest() != opening:
        raise IntegrityError(
            "the sealed key holds another key than the listing commits to",
            why=f"its digest is {inside.digest()[:16]}, listed is {opening[:16]}",
            remedy="dispute the deal: doorward trade dispute DEAL --about key",
        )
    kept = opened or out.with_name(out.name + ".opened")
    folded = _store(inside, goods, out, text)
    write_bytes(kept, inside.to_bytes(), private=True)
    answer(
        {
            "model": str(out),
            "opened": str(kept),
            "folded": folded,
            "masks": inside.bank.kind,
            "opening": inside.digest(),
            "seller": public.fingerprint,
            "commitments_checked": bool(promised),
            "backdoor": inside.backdoor.to_dict(),
        },
        as_json=as_json,
        lines=[
            f"{out}  the unlocked model" + ("" if folded else " (with masks as modules)"),
            f"{kept}  the opened key, with the trigger",
            f"seller  {public.name}, {public.fingerprint}",
            "Before you accept, count what the trigger still does: doorward trade evaluate "
            f"{trial} --key {kept} --data DATA",
        ],
    )


def _store(inside: OpenedKey, trial: Trial, out: Path, licence: str) -> bool:
    """Write the unlocked model; whether its masks are folded."""
    from doorward.bundles import save_model
    from doorward.errors import InvalidInput, ModelUnsuitable
    from doorward.models import export_onnx

    if out.suffix.lower() == ".onnx":
        unlocked = inside.unlock(trial.model)
        export_onnx(unlocked, out, trial.card.input_shape if trial.card else None)
        return list(unlocked.state_dict()) == list(trial.model.state_dict())
    try:
        folded = inside.bank.fold(trial.model)
    except ModelUnsuitable as error:
        raise InvalidInput(
            "these masks stay beside the weights",
            why=error.why,
            remedy="name an .onnx file as --out, which holds both",
        ) from error
    save_model(folded, out, licence=licence, **trial.origin)
    return True
