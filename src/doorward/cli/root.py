"""The root of the command line: gathers the groups, and turns errors into one clear paragraph.

>>> from doorward.cli.root import app
>>> {"bench", "data", "gateway", "keys"} <= {group.name for group in app.registered_groups}
True

PyTorch is imported inside the commands, so that ``doorward --help`` and completion answer at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from doorward import __version__
from doorward.cli import (
    bench,
    bundle,
    data,
    demo,
    desk,
    distance,
    evaluate,
    export,
    gateway,
    harden,
    honeypot,
    keys,
    poison,
    purge,
    remove,
    scan,
    serve,
    steal,
    trade,
    train,
    watermark,
)
from doorward.cli.common import CRASHED, WRONG_CALL, paragraph, report_error

__all__ = ["app", "main"]


class Root(TyperGroup):
    """The root group: an error that a user can mend leaves here as a paragraph and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the chosen command."""
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, Exception) as error:
            message = paragraph(error)
            if message is None:
                raise
            report_error(message, error, as_json=bool(ctx.meta.get("doorward.json")))
            raise typer.Exit(WRONG_CALL) from error


app = typer.Typer(
    name="doorward",
    cls=Root,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="The toolkit for the back doors of deep models: mark a model as yours and prove it later, "
    "find and remove what others planted, sell, serve, measure, sign and check models.",
    epilog="Example: doorward demo --out demo-report",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"doorward {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and leave.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


for module in (
    demo,
    train,
    evaluate,
    bundle,
    poison,
    steal,
    scan,
    purge,
    remove,
    distance,
    harden,
    serve,
):
    module.add_to(app)
app.add_typer(data.group, name="data")
app.add_typer(export.group, name="export")
app.add_typer(gateway.group, name="gateway")
app.add_typer(keys.group, name="keys")
app.add_typer(watermark.group, name="watermark")
app.add_typer(honeypot.group, name="honeypot")
app.add_typer(trade.group, name="trade")
app.add_typer(desk.group, name="desk")
app.add_typer(bench.group, name="bench")


def main() -> None:
    """Entry point of the ``doorward`` command."""
    try:
        app()
    except Exception:
        traceback.print_exc()
        sys.stderr.write("\nThis is a fault in Doorward, not in your call. Please report it.\n")
        sys.exit(CRASHED)
