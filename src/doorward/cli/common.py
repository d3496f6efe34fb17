"""What all commands share: options, output, exit codes and the wording of errors.

>>> from doorward.errors import MissingData
>>> paragraph(MissingData("there is no data set at /x", remedy="run: doorward data fetch cifar10"))
'there is no data set at /x. Run: doorward data fetch cifar10.'
>>> paragraph(ZeroDivisionError()) is None   # a fault of ours keeps its traceback
True
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.errors import DoorwardError, InvalidInput

__all__ = [
    "CRASHED",
    "NO",
    "WRONG_CALL",
    "BatchSize",
    "Data",
    "Device",
    "Devices",
    "Json",
    "Precision",
    "Root",
    "Seed",
    "answer",
    "note",
    "paragraph",
    "report_error",
    "table",
]

NO, WRONG_CALL, CRASHED = 1, 2, 3

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
_PLACE = {errno.EACCES, errno.EPERM, errno.ENOENT, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


def _remember_json(ctx: typer.Context, wanted: bool) -> bool:
    ctx.meta["doorward.json"] = wanted
    return wanted


Json = Annotated[
    bool,
    typer.Option(
        "--json",
        help="Print one JSON document on stdout, and everything else on stderr.",
        callback=_remember_json,
        is_eager=True,
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of everything random in this command.")]
Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:1, mps.")]
Devices = Annotated[int, typer.Option(help="Processes to train on, data-parallel.", min=1)]
Precision = Annotated[
    str, typer.Option(help="Arithmetic: auto (bf16 where the hardware has it), fp32, bf16.")
]
BatchSize = Annotated[int, typer.Option(help="Images per step.", min=1)]
Data = Annotated[
    str,
    typer.Option(help="A data set by name (see: doorward data list) or a folder/class/image.png."),
]
Root = Annotated[
    Path | None,
    typer.Option(help="Where data sets lie. Default: $DOORWARD_DATA.", show_default=False),
]


def note(message: str) -> None:
    """Tell the user something in passing, on stderr."""
    typer.echo(message, err=True)


def answer(
    document: Mapping[str, Any], *, as_json: bool, lines: str | list[str], yes: bool = True
) -> None:
    """End a command: its result on stdout as JSON or as `lines`, and exit code 1 when it is no."""
    if as_json:
        typer.echo(json.dumps(document, indent=2, allow_nan=False))
    else:
        typer.echo(lines if isinstance(lines, str) else "\n".join(lines))
    if not yes:
        raise typer.Exit(NO)


def table(columns: list[str], rows: list[list[str]]) -> str:
    """A plain table for the terminal; the last column wraps to the width.

    >>> print(table(["name", "what"], [["digits", "8x8"]]))
     name    what
     digits  8x8
    """
    import io

    from rich.console import Console
    from rich.table import Table

    grid = Table(*columns, box=None, pad_edge=True, show_header=True, header_style="bold")
    for row in rows:
        grid.add_row(*row)
    target = io.StringIO()
    terminal = sys.stdout.isatty()
    Console(file=target, force_terminal=terminal, width=None if terminal else 120).print(grid)
    return "\n".join(line.rstrip() for line in target.getvalue().splitlines())


def paragraph(error: BaseException) -> str | None:
    """What to tell the user of `error`, or None when it is a fault of Doorward's own."""
    from pydantic import ValidationError

    if isinstance(error, DoorwardError):
        return str(error)
    if isinstance(error, ValidationError):
        from doorward.records import why_invalid

        return str(InvalidInput(f"{error.title} is not valid", why=why_invalid(error)))
    if isinstance(error, KeyboardInterrupt):
        return "Interrupted. Nothing was left half-written; run the same command again."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return (
            "There is not enough memory for this. Choose smaller batches (--batch-size, or "
            "batch_size among the options of a method; see --help) or a smaller model."
        )
    if isinstance(error, OSError) and error.errno in _DISK | _PLACE:
        place = f" ({error.filename})" if error.filename else ""
        remedy = "free space" if error.errno in _DISK else "check the path and its permissions"
        return f"{os.strerror(error.errno or 0)}{place}. {remedy.capitalize()} and run it again."
    return None


def report_error(message: str, error: BaseException, *, as_json: bool) -> None:
    """Print an error: a paragraph on stderr, and under ``--json`` a document on stdout too."""
    prefix = typer.style("error:", fg="red", bold=True) if sys.stderr.isatty() else "error:"
    typer.echo(f"{prefix} {' '.join(message.split())}", err=True)
    if as_json:
        kind = type(error).__name__
        typer.echo(json.dumps({"error": {"kind": kind, "message": message}}, indent=2))
