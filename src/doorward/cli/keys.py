"""``doorward keys``: an owner's signing identity.

::

    doorward keys new ada.key --name "Ada Lovelace"     # ada.key, ada.pub.json, ada.pem
    doorward keys show ada.pub.json
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer

__all__ = ["PassphraseFile", "group", "passphrase"]

group = typer.Typer(
    no_args_is_help=True,
    help="Make and show signing identities.",
    epilog="Example: doorward keys new ada.key --name Ada",
)

PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help="A file whose first line is the passphrase; else $DOORWARD_PASSPHRASE, else you "
        "are asked.",
        show_default=False,
    ),
]


def passphrase(file: Path | None, *, what: str, repeat: bool = False) -> str:
    """The passphrase from `file`, the environment, or a hidden prompt (twice for new keys)."""
    from doorward.bundles import read_passphrase
    from doorward.errors import InvalidInput

    def ask() -> str:
        typed = getpass.getpass(f"Passphrase of {what}: ")
        if repeat and typed != getpass.getpass("Again: "):
            raise InvalidInput("the two passphrases differ", remedy="type the same one twice")
        return typed

    return read_passphrase(file=file, prompt=ask if sys.stdin.isatty() else None)


@group.command(epilog='Example: doorward keys new ada.key --name "Ada Lovelace"')
def new(
    path: Annotated[Path, typer.Argument(help="The sealed private key to write.")],
    name: Annotated[str, typer.Option(help="Your name, as others shall see it.")],
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a signing identity: a sealed private key, and the public files to hand out.

    Beside PATH (say ada.key) it writes ada.pub.json, for Doorward, and ada.pem, for the OpenSSF
    tool `model_signing verify key --public_key`. Existing files are never overwritten.
    """
    from doorward.bundles import Identity
    from doorward.errors import InvalidInput

    public, pem = path.with_suffix(".pub.json"), path.with_suffix(".pem")
    for place in (path, public, pem):
        if place.exists():
            raise InvalidInput(
                f"{place} exists already",
                why="a key that is overwritten is lost for ever",
                remedy="choose another name, or move the old file away",
            )
    identity = Identity.new(name)
    identity.seal(path, passphrase(passphrase_file, what=str(path), repeat=True))
    identity.public.save(public)
    identity.public.save_pem(pem)
    document = {
        "key": str(path),
        "public": str(public),
        "pem": str(pem),
        "name": identity.public.name,
        "fingerprint": identity.public.fingerprint,
    }
    answer(
        document,
        as_json=as_json,
        lines=[
            f"{path}  the private key, sealed: keep it, and a backup, apart from your models",
            f"{public}  the public identity: hand it out",
            f"{pem}  the public key for model_signing",
            f"fingerprint  {identity.public.fingerprint}",
        ],
    )


@group.command(epilog="Example: doorward keys show ada.pub.json")
def show(
    path: Annotated[Path, typer.Argument(help="A public identity, or a sealed key file.")],
    as_json: Json = False,
) -> None:
    """Show the public part of an identity or sealed key; no passphrase is asked for."""
    from doorward.bundles import PublicIdentity
    from doorward.errors import BadFile
    from doorward.files import read_json

    content = read_json(path)
    if isinstance(content, dict) and content.get("format") == "doorward-sealed":
        shown = content.get("public")
        if not isinstance(shown, dict):
            raise BadFile(f"{path} has no public part", remedy="use your backup")
        document = {"sealed": True, "purpose": content.get("purpose"), **shown}
        # Not authenticated before the key is opened, and said so.
        remark = "sealed private key; its public part is proven only when the key is opened"
    else:
        document = {"sealed": False, "purpose": "identity", **PublicIdentity.load(path).to_dict()}
        remark = "public identity; name and keys are certified by the fingerprint's key"
    lines = [remark]
    lines += [f"{key:12} {value}" for key, value in document.items() if isinstance(value, str)]
    answer(document, as_json=as_json, lines=lines)
