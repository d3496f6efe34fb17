"""``doorward gateway evidence``: whether the log is whole, and what it shows.

::

    doorward gateway evidence check --anchor 1200:9f86d0...
    doorward gateway evidence find ada --images asked.npy
    doorward gateway evidence moves
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.gateway.options import Database, SecretFile

if TYPE_CHECKING:
    from doorward.serving.gateway import EvidenceLog
    from doorward.serving.gateway.evidence import Row

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="What was answered: check the log, and search it.",
    epilog="Example: doorward gateway evidence check --json",
)

_DATABASE, _SECRET = "doorward-gateway.sqlite", Path("doorward-gateway.secret")


@group.command(epilog="Example: doorward gateway evidence check --json")
def check(
    database: Database = _DATABASE,
    secret: SecretFile = _SECRET,
    anchor: Annotated[
        str | None,
        typer.Option(help="A row as published earlier, as number:digest.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Follow the chain from its first row to its sealed end: whole (0) or not (1)."""
    found = _log(database, secret, verify=False).check(_anchor(anchor))
    line = (
        f"WHOLE: {found.rows} rows. Publish {found.rows}:{found.head} with a time stamp."
        if found.intact
        else f"BROKEN: {found.problem}."
    )
    answer(
        {"whole": found.intact, **found.to_dict()}, as_json=as_json, lines=line, yes=found.intact
    )


@group.command(epilog="Example: doorward gateway evidence find ada --images asked.npy")
def find(
    tenant: Annotated[str, typer.Argument(help="The tenant's name.")],
    images: Annotated[
        Path, typer.Option(help="A .npy file, float32 (N, C, H, W), bit by bit as they were sent.")
    ],
    database: Database = _DATABASE,
    secret: SecretFile = _SECRET,
    as_json: Json = False,
) -> None:
    """Show the answers in which a tenant asked about any of these images: some (0) or none (1)."""
    import numpy as np

    from doorward.errors import BadFile, MissingData

    try:
        pixels = np.load(images, allow_pickle=False)
    except FileNotFoundError:
        raise MissingData(f"there is no file {images}", remedy="check the path") from None
    except (ValueError, OSError, EOFError) as error:
        raise BadFile(f"{images} is no .npy file of numbers", why=str(error)) from error
    if pixels.ndim != 4 or pixels.dtype != np.float32:
        raise BadFile(
            f"{images} holds {pixels.dtype} {pixels.shape}", why="float32 (N, C, H, W) is expected"
        )
    rows = [_shown(row) for row in _log(database, secret).find(tenant, pixels)]
    lines = table(
        ["row", "time", "images", "facts"],
        [[str(row["number"]), row["time"], str(row["count"]), json.dumps(row["facts"])]
         for row in rows],
    )  # fmt: skip
    answer({"tenant": tenant, "rows": rows}, as_json=as_json, lines=lines, yes=bool(rows))


@group.command(epilog="Example: doorward gateway evidence moves --json")
def moves(
    database: Database = _DATABASE, secret: SecretFile = _SECRET, as_json: Json = False
) -> None:
    """List which accounts were moved to another stage, by what, and when."""
    rows = [_shown(row) for row in _log(database, secret).rows(kind="move")]
    lines = table(
        ["row", "time", "account", "from", "to", "why"],
        [[str(row["number"]), row["time"], row["account"], str(row["facts"]["from"]),
          str(row["facts"]["to"]), _why(row["facts"])] for row in rows],
    )  # fmt: skip
    answer({"moves": rows}, as_json=as_json, lines=lines)


def _log(database: str, secret: Path, *, verify: bool = True) -> EvidenceLog:
    from doorward.serving.database import Database as Sql
    from doorward.serving.gateway import EvidenceLog, read_secret

    return EvidenceLog(Sql(database), read_secret(secret), verify=verify)


def _shown(row: Row) -> dict[str, Any]:
    when = datetime.fromtimestamp(row.time / 1e6, UTC).isoformat(timespec="milliseconds")
    facts = json.loads(row.facts)
    return {
        "number": row.number,
        "time": when,
        "tenant": row.tenant,
        "account": row.account,
        "count": row.count,
        "facts": facts,
    }


def _why(facts: dict[str, Any]) -> str:
    if "monitor" not in facts:
        return str(facts.get("by", ""))
    return f"{facts['monitor']} {facts['statistic']:.3g} (threshold {facts['threshold']:g})"


def _anchor(text: str | None) -> tuple[int, str] | None:
    from doorward.errors import InvalidInput

    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not (number.isdigit() and len(digest) == 64):
        raise InvalidInput(f"the anchor {text!r} is no number:digest", remedy="copy it whole")
    return int(number), digest.lower()
