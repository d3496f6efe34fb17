"""``doorward watermark claim``: say in public that models which know a key are yours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.watermark.group import KeyFile, group

__all__ = ["claim"]


@group.command(
    epilog="Example: doorward watermark claim mark.key --identity ada.key --out claim.json"
)
def claim(
    key: KeyFile,
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    out: Annotated[Path, typer.Option(help="The claim to write; you may publish it.")],
    model: Annotated[
        Path | None, typer.Option(help="A bundle whose digest is put on record.")
    ] = None,
    alpha_bits: Annotated[
        float,
        typer.Option(help="The proof asks for a p-value of 2^-BITS or less.", min=20, max=1000),
    ] = 64,
    opening_size: Annotated[
        int | None,
        typer.Option(
            help="Triggers that a public dispute opens, for the life of the claim; 0 for none. "
            "Default: 20, or more where classes are few.",
            min=0,
            show_default=False,
        ),
    ] = None,
    opening_bits: Annotated[
        float,
        typer.Option(
            help="All openings together ask for a p-value of 2^-BITS or less.", min=20, max=1000
        ),
    ] = 40,
    passphrase_file: PassphraseFile = None,
    identity_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="The identity's passphrase, if it is not the key's.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Sign a public claim: a commitment to the key, and the rule by which it will be judged.

    Make it, and publish it with a time stamp, before you publish the model.
    """
    from doorward.bundles import Identity, digest
    from doorward.watermark import WatermarkKey, make_claim
    from doorward.watermark.lots import Disclosure

    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    signer = Identity.open(
        identity, passphrase(identity_passphrase_file or passphrase_file, what=str(identity))
    )
    rule: Disclosure | None = Disclosure.fitting(opened.n, opened.classes, -opening_bits)
    if opening_size is not None:
        values = {"size": opening_size, "log2_alpha": -opening_bits}
        rule = Disclosure.from_dict(values) if opening_size else None
    made = make_claim(
        opened,
        signer,
        alpha=2.0**-alpha_bits,
        disclosure=rule,
        model_digest=None if model is None else digest(model),
    )
    made.save(out)
    statement = made.statement
    document = {"claim": str(out), "needed": statement.needed, **statement.to_dict()}
    openings = "Public proofs: none; the claim allows no openings"
    if rule is not None:
        lots, enough = rule.lots(statement.n), rule.needed(statement.n, statement.classes)
        document |= {"openings": lots, "needed_in_opening": enough}
        openings = (
            f"Public proofs: {lots}, each opens {rule.size} triggers and asks for {enough} of them"
        )
    beacon = statement.key.beacon
    answer(
        document,
        as_json=as_json,
        lines=[
            f"{out}  signed by {signer.public.name} ({signer.public.fingerprint[:16]})",
            f"Proof: at least {statement.needed} of {statement.n} triggers answered with the "
            f"key's label (p <= 2^{statement.log2_alpha:g})",
            openings,
            *([f"Key not older than the beacon {beacon}"] if beacon else []),
        ],
    )
