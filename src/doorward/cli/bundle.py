"""``doorward sign``, ``check`` and ``convert``: model folders and where they come from.

::

    doorward convert weights.pt --arch resnet18 --classes 10 --out theirs.model
    doorward sign theirs.model --identity ada.key
    doorward check theirs.model --public ada.pub.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.keys import PassphraseFile, passphrase

__all__ = ["add_to"]

Folder = Annotated[Path, typer.Argument(help="The model folder.")]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command(epilog="Example: doorward sign digits.model --identity ada.key")(sign)
    app.command(epilog="Example: doorward check digits.model --public ada.pub.json")(check)
    app.command(
        epilog="Example: doorward convert weights.pt --arch resnet18 --classes 10 --out w.model"
    )(convert)


def sign(
    folder: Folder,
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Sign a model folder in the OpenSSF model-signing format (FOLDER/model.sig).

    Others can check it with `doorward check`, or with `model_signing verify key`.
    """
    from doorward.bundles import Identity, sign_folder

    signer = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    signature = sign_folder(folder, signer)
    answer(
        {
            "signature": str(signature),
            "name": signer.public.name,
            "fingerprint": signer.public.fingerprint,
        },
        as_json=as_json,
        lines=f"{signature}  signed by {signer.public.name} ({signer.public.fingerprint[:16]})",
    )


def check(
    folder: Folder,
    public: Annotated[
        Path, typer.Option(help="The signer's public identity, from a source you trust.")
    ],
    as_json: Json = False,
) -> None:
    """Check that a model folder is, file by file, what its owner signed: yes (0) or no (1)."""
    from doorward.bundles import PublicIdentity, check_folder
    from doorward.errors import IntegrityError

    signer = PublicIdentity.load(public)
    facts = {"folder": str(folder), "name": signer.name, "fingerprint": signer.fingerprint}
    try:
        files = check_folder(folder, signer)
    except IntegrityError as error:
        note(f"error: {error}")
        lines = f"BAD: {folder} is not what {signer.name} signed."
        answer(
            {"good": False, "reason": str(error), **facts}, as_json=as_json, lines=lines, yes=False
        )
        return
    answer(
        {"good": True, "files": list(files), **facts},
        as_json=as_json,
        lines=f"GOOD: all {len(files)} files of {folder} are as {signer.name} "
        f"({signer.fingerprint[:16]}) signed them.",
    )


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="A PyTorch state dict (.pt, .pth) or safetensors file.")
    ],
    classes: Annotated[str, typer.Option(help="How many classes, or their names: cat,dog,owl.")],
    out: Annotated[Path, typer.Option(help="The model bundle (a folder) to write.")],
    arch: Annotated[
        str | None, typer.Option(help="The architecture of the zoo.", show_default=False)
    ] = None,
    factory: Annotated[
        str | None,
        typer.Option(
            "--model", help="Or the package.module:function that makes it.", show_default=False
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(help="An option of it, as name=value; may be repeated.", show_default=False),
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the images it takes.", min=1)] = 32,
    channels: Annotated[int, typer.Option(help="Their channels.", min=1, max=3)] = 3,
    mean: Annotated[
        str | None, typer.Option(help="Per-channel mean it was trained with: 0.49,0.48,0.45.")
    ] = None,
    std: Annotated[
        str | None, typer.Option(help="Per-channel standard deviation: 0.25,0.24,0.26.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Turn a foreign PyTorch state dict into a model bundle, without running any code in it."""
    from doorward.bundles import convert as convert_checkpoint
    from doorward.cli.options import import_from_here, parse_options

    import_from_here()
    card = convert_checkpoint(
        checkpoint,
        out,
        architecture=arch,
        factory=factory,
        classes=int(classes) if classes.isdigit() else [c.strip() for c in classes.split(",")],
        input_shape=(channels, size, size),
        mean=_numbers("--mean", mean),
        std=_numbers("--std", std),
        options=parse_options(option),
    )
    answer(
        {"model": str(out), "digest": card.digest(), **card.to_dict()},
        as_json=as_json,
        lines=f"{out}  {card.architecture or card.factory}, {len(card.classes)} classes",
    )


def _numbers(name: str, text: str | None) -> list[float] | None:
    from doorward.errors import InvalidInput

    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise InvalidInput(
            f"{name} {text!r} is not a list of numbers", remedy="write, say, 0.49,0.48,0.45"
        ) from None
