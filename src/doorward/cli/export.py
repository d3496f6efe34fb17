"""``doorward export``: models out to the formats that others run.

::

    doorward export onnx digits.model --out digits.onnx
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Json, answer
from doorward.cli.options import TrustFactory

__all__ = ["group"]

group = typer.Typer(
    no_args_is_help=True,
    help="Write models in the formats that others run.",
    epilog="Example: doorward export onnx digits.model --out digits.onnx",
)


@group.callback()
def _export() -> None:
    pass


@group.command(epilog="Example: doorward export onnx digits.model --out digits.onnx")
def onnx(
    model: Annotated[str, typer.Argument(help="A bundle, or package.module:function[=weights].")],
    out: Annotated[Path, typer.Option(help="The .onnx file to write.")],
    size: Annotated[
        int | None,
        typer.Option(help="Side of the images, where the model does not say.", show_default=False),
    ] = None,
    channels: Annotated[
        int, typer.Option(help="Their channels, where the model does not say.", min=1)
    ] = 3,
    trust_factory: TrustFactory = False,
    as_json: Json = False,
) -> None:
    """Write a model as ONNX, after checking that ONNX Runtime answers as PyTorch does."""
    from doorward.bundles import open_model
    from doorward.cli.options import import_from_here
    from doorward.errors import InvalidInput
    from doorward.models import export_onnx

    if out.suffix.lower() != ".onnx":
        raise InvalidInput(f"{out} does not end in .onnx", remedy="name the file so")
    import_from_here()
    module = open_model(model, trust_factory=trust_factory)
    shape = None if size is None else (channels, size, size)
    own = getattr(module, "input_shape", None)
    facts = export_onnx(module, out, own or shape)
    answer(
        facts,
        as_json=as_json,
        lines=f"{out}  opset {facts['opset']}, {facts['bytes']} bytes; logits differ from "
        f"PyTorch's by at most {facts['max_difference']:.2g}",
    )
