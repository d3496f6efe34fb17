"""Options that the commands around the gateway share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Database", "SecretFile", "Tenants"]

Database = Annotated[
    str,
    typer.Option(
        help="For evidence, budgets and stages: a file, sqlite:///path or postgresql://host/name."
    ),
]
SecretFile = Annotated[
    Path, typer.Option("--secret", help="The gateway's secret; `doorward serve` makes it.")
]
Tenants = Annotated[Path, typer.Option(help="The file of tenants.")]
