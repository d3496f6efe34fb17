"""``doorward honeypot keygen``: draw the key of a lean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.honeypot.group import group
from doorward.cli.keys import PassphraseFile, passphrase

__all__ = ["keygen"]


@group.command(epilog="Example: doorward honeypot keygen lean.key --owner ada.pub.json")
def keygen(
    path: Annotated[Path, typer.Argument(help="The sealed key to write.")],
    bits: Annotated[
        int,
        typer.Option(
            help="Secret waves: more make the proof stronger, each of them fainter.", min=1, max=16
        ),
    ] = 3,
    owner: Annotated[
        Path | None,
        typer.Option(help="Your public identity: only you can then claim with this key."),
    ] = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a key for a lean from the system's random numbers and seal it."""
    from doorward.bundles import PublicIdentity
    from doorward.honeypot import LeanKey

    public = None if owner is None else PublicIdentity.load(owner)
    key = LeanKey.new(bits, public)
    key.seal(path, passphrase(passphrase_file, what=str(path), repeat=True))
    answer(
        {"key": str(path), "commitment": key.commitment(), **key.parameters.to_dict()},
        as_json=as_json,
        lines=[
            f"{path}  {bits} secret waves, sealed",
            f"commitment  {key.commitment()}",
            "Next: doorward honeypot fit, then doorward honeypot claim, then serve.",
        ],
    )
