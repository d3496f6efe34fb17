"""The group ``doorward honeypot`` itself, which its commands join one by one.

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
    help="Serve answers that give a thief's copy away, and prove it from the copy's labels.",
    epilog="Example: doorward honeypot fit lean.key mine.model --data cifar10 --out leaning.onnx "
    "--result lean.json",
)

KeyFile = Annotated[Path, typer.Argument(help="The sealed key of the lean.")]
