"""``doorward serve``: a model behind the Open Inference Protocol, for tenants, with evidence.

::

    doorward serve net.onnx
    doorward serve net.model --honeypot guarded.onnx --tenants tenants.json --port 8000
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, note
from doorward.cli.gateway.options import Database, SecretFile
from doorward.cli.options import TrustFactory

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward serve net.onnx --honeypot guarded.onnx --tenants tenants.json"
    )(serve)


def serve(
    model: Annotated[Path, typer.Argument(help="An .onnx file, or a bundle, which is exported.")],
    honeypot: Annotated[
        list[Path] | None,
        typer.Option(
            help="The same model with a honeypot head; may be repeated, and then each tenant "
            "gets one of them.",
            show_default=False,
        ),
    ] = None,
    tenants: Annotated[
        Path | None,
        typer.Option(
            help="Who may ask (see: doorward gateway tenant add). Default: anybody.",
            show_default=False,
        ),
    ] = None,
    database: Database = "doorward-gateway.sqlite",
    secret: SecretFile = Path("doorward-gateway.secret"),
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any free one.", min=0, max=65535)] = 8000,
    name: Annotated[
        str | None,
        typer.Option(help="Its name in addresses. Default: the file's.", show_default=False),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Limits, batching, ladder and monitors, as JSON. The options below win.",
            show_default=False,
        ),
    ] = None,
    reference: Annotated[
        Path | None,
        typer.Option(
            help="What honest traffic looks like (see: doorward gateway reference).",
            show_default=False,
        ),
    ] = None,
    outputs: Annotated[
        str | None,
        typer.Option(help="What the model gives: auto, logits, probabilities.", show_default=False),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(help="Of one inference. Default: all cores.", min=0, show_default=False),
    ] = None,
    max_batch: Annotated[
        int | None, typer.Option(help="Images in one inference.", min=1, show_default=False)
    ] = None,
    max_delay: Annotated[
        float | None,
        typer.Option(
            help="Milliseconds that a request waits for others.", min=0, show_default=False
        ),
    ] = None,
    max_images: Annotated[
        int | None, typer.Option(help="Images in one request.", min=1, show_default=False)
    ] = None,
    drain: Annotated[
        float,
        typer.Option(
            help="Seconds to go on answering, as not ready, after a signal to stop.", min=0
        ),
    ] = 0.0,
    reload_every: Annotated[
        float, typer.Option(help="Seconds between looks at the files.", min=0.05)
    ] = 2.0,
    trust_factory: TrustFactory = False,
    as_json: Json = False,
) -> None:
    """Serve a model until SIGTERM or Ctrl-C; files that change are loaded again meanwhile."""
    import logging

    from doorward.errors import BadFile
    from doorward.files import read_json
    from doorward.serving.database import Database as Sql
    from doorward.serving.gateway import Gateway, Reference, Settings, Sources, read_secret
    from doorward.serving.gateway import serve as serve_until_stopped

    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("doorward.gateway").setLevel(logging.INFO)
    given: dict[str, Any] = {
        "model": name,
        "outputs": outputs,
        "threads": threads,
        "max_batch": max_batch,
        "max_delay": None if max_delay is None else max_delay / 1000,
        "max_images": max_images,
    }
    stored = {} if settings is None else read_json(settings)
    if not isinstance(stored, dict):
        raise BadFile(f"{settings} holds no settings", why="a JSON object is expected")
    named = {key: value for key, value in given.items() if value is not None}
    chosen = Settings.from_dict({"model": model.stem, **stored, **named})
    sources = Sources(
        model=model,
        honeypots=tuple(honeypot or ()),
        tenants=tenants,
        outputs=chosen.outputs,
        threads=chosen.threads,
        trust_factory=trust_factory,
    )
    gateway = Gateway(
        sources.graphs(),
        database=Sql(database),
        secret=read_secret(secret, make=True),
        tenants=sources.book(),
        settings=chosen,
        reference=None if reference is None else Reference.load(reference),
    )
    if tenants is None:
        note("Anybody who reaches this address may ask; name tenants with --tenants.")

    def tell(chosen_port: int) -> None:
        shown = f"[{host}]" if ":" in host else host
        url = f"http://{shown}:{chosen_port}/v2/models/{chosen.model}"
        told = {"url": url, "model": chosen.model, "version": gateway.graphs.version}
        typer.echo(json.dumps(told) if as_json else f"{url}  version {gateway.graphs.version}")

    serve_until_stopped(
        gateway,
        sources=sources,
        host=host,
        port=port,
        drain=drain,
        reload_every=reload_every,
        started=tell,
    )
