"""``doorward watermark verify-blended``: is the mark still there, seen through natural images?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, Root, Seed, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import group
from doorward.cli.watermark.verifying import load_covers
from doorward.errors import IntegrityError, InvalidInput

__all__ = ["verify_blended"]


@group.command(
    "verify-blended",
    epilog="Example: doorward watermark verify-blended claim.json suspect.onnx --key mark.key "
    "--public ada.pub.json --carriers cifar10",
)
def verify_blended(
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
    carriers: Annotated[
        str, typer.Option(help="Images of the suspect's task: a data set or folder.")
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
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Decide by triggers laid over natural images: yes (0) or no (1).

    For marks that an attack has weakened, above all those embedded by the method "blended", and
    for services that refuse abstract pictures. 16 images per trigger at 70 % opacity, the same for
    everybody; the p-value counts twice, as triggers may be asked about alone, too (`verify`).
    """
    from doorward.bundles import PublicIdentity, open_black_box
    from doorward.cli.options import import_from_here
    from doorward.watermark import WatermarkKey
    from doorward.watermark.verifying import examine_blended

    import_from_here()
    owner = PublicIdentity.load(public)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    images = load_covers(carriers, opened, root)
    if images is None:
        raise InvalidInput(
            f"--carriers is {carriers}",
            why="the carriers are natural images of the suspect's task",
            remedy="name a data set, or a folder CLASS/IMAGE.png",
        )
    try:
        found = examine_blended(
            claim,
            opened,
            open_black_box(suspect, trust_factory=trust_factory),
            public=owner,
            carriers=images,
            alpha=None if alpha_bits is None else 2.0**-alpha_bits,
            seed=seed,
        )
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT VERIFIED: the claim is rejected.", yes=False)
        return
    answer(found.to_dict(), as_json=as_json, lines=found.explain(), yes=found.verified)
