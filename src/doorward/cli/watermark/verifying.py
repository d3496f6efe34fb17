"""``doorward watermark verify``: does a suspect model carry the mark of a claim?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import group

__all__ = ["verify"]


@group.command(
    epilog="Example: doorward watermark verify claim.json suspect.onnx --key mark.key --public "
    "ada.pub.json"
)
def verify(
    claim: Annotated[Path, typer.Argument(help="The owner's claim.")],
    suspect: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    key: Annotated[Path, typer.Option(help="The sealed watermark key.")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    alpha_bits: Annotated[
        float | None,
        typer.Option(
            help="Your own level, 2^-BITS; of it and the claim's, the stricter decides.",
            min=1,
            max=1000,
            show_default=False,
        ),
    ] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decide whether a suspect model carries the claim's mark: yes (0) or no (1).

    Only the suspect's labels are used. A claim that was tampered with, or that somebody else
    signed, is a no.
    """
    from doorward.bundles import PublicIdentity, open_black_box
    from doorward.cli.options import import_from_here
    from doorward.errors import IntegrityError
    from doorward.watermark import WatermarkKey
    from doorward.watermark import verify as verify_mark

    import_from_here()
    owner = PublicIdentity.load(public)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    box = open_black_box(suspect, trust_factory=trust_factory)
    document: dict[str, Any]
    alpha = None if alpha_bits is None else 2.0**-alpha_bits
    try:
        verdict = verify_mark(claim, opened, box, public=owner, alpha=alpha)
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT VERIFIED: the claim is rejected.", yes=False)
        return
    document = verdict.to_dict()
    answer(document, as_json=as_json, lines=verdict.explain(), yes=verdict.verified)
