"""The group ``doorward trade`` itself, which its commands join one by one.

>>> group.info.no_args_is_help
True
"""

from __future__ import annotations

import typer

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Sell and buy models with a revocable backdoor.",
    epilog="Example: doorward trade status --desk https://desk.example --identity ada.key",
)
