"""The group ``doorward watermark`` itself, which its commands join one by one.

>>> group.info.no_args_is_help
True
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["KeyFile", "group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Mark a model as yours, and prove it from its answers.",
    epilog="Example: doorward watermark verify claim.json suspect.onnx --key mark.key --public "
    "ada.pub.json",
)

KeyFile = Annotated[Path, typer.Argument(help="The sealed watermark key.")]
