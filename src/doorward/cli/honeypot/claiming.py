"""``doorward honeypot claim``: commit to a lean, before anything is served."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.honeypot.group import KeyFile, group
from doorward.cli.keys import PassphraseFile, passphrase

__all__ = ["claim"]


@group.command(
    epilog="Example: doorward honeypot claim lean.key --fitted lean.json --identity ada.key "
    "--out claim.json"
)
def claim(
    key: KeyFile,
    fitted: Annotated[Path, typer.Option(help="What honeypot fit wrote as --result.")],
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    out: Annotated[Path, typer.Option(help="The claim to write.")],
    alpha: Annotated[
        float, typer.Option(help="Probability of accusing an unrelated model.", min=0, max=1)
    ] = 1e-3,
    amplitude: Annotated[
        list[float] | None,
        typer.Option(
            help="Amplitudes of the waves, of 255; may be repeated. Default: 16, 32, 48.",
            show_default=False,
        ),
    ] = None,
    look: Annotated[
        list[int] | None,
        typer.Option(
            help="Numbers of images after which a verification may stop; may be repeated. "
            "Default: 8, 16, 32, 64.",
            show_default=False,
        ),
    ] = None,
    model: Annotated[
        Path | None, typer.Option(help="A bundle whose digest is put on record.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    identity_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="The identity's passphrase, if it is not the key's.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a claim that commits to the key, its waves and classes, and to what counts as proof.

    Have its digest time-stamped before you serve the first answer, and keep the file to yourself
    until there is a dispute: it lists the waves that the key was drawn from.
    """
    from doorward.bundles import Identity, digest
    from doorward.bundles.documents import read_object
    from doorward.errors import BadFile, InvalidInput
    from doorward.honeypot import AMPLITUDES, LeanKey, LeanResult, make_claim
    from doorward.honeypot.proof import LOOKS

    opened = LeanKey.open(key, passphrase(passphrase_file, what=str(key)))
    signer = Identity.open(
        identity, passphrase(identity_passphrase_file or passphrase_file, what=str(identity))
    )
    try:
        menu = LeanResult.from_dict(read_object(fitted)).menu
    except InvalidInput as error:
        raise BadFile(
            f"{fitted} is no result of honeypot fit", why=error.why, remedy="fit again"
        ) from error
    made = make_claim(
        opened,
        menu,
        signer,
        alpha=alpha,
        amplitudes=[a / 255 for a in amplitude] if amplitude else AMPLITUDES,
        looks=look or LOOKS,
        model_digest=None if model is None else digest(model),
    )
    made.save(out)
    statement = made.statement
    answer(
        {"claim": str(out), "digest": made.digest(), "keys": statement.keys, "alpha": alpha},
        as_json=as_json,
        lines=[
            f"{out}  signed by {signer.public.name} ({signer.public.fingerprint[:16]})",
            f"digest  {made.digest()}  (time-stamp this before you serve)",
            f"One of {statement.keys} keys; the smallest p-value is {2.0**statement.best:.2g}",
        ],
    )
