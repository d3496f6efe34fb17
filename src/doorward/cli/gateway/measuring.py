"""``doorward gateway reference``: what honest traffic looks like, for the monitors.

::

    doorward gateway reference net.onnx --data cifar10 --out reference.json
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Data, Json, Root, Seed, answer
from doorward.cli.options import Channels, Size, TrustFactory

__all__ = ["add_to"]


def add_to(group: typer.Typer) -> None:
    """Register the command."""
    group.command(
        epilog="Example: doorward gateway reference net.onnx --data cifar10 --out reference.json"
    )(reference)


def reference(
    model: Annotated[Path, typer.Argument(help="An .onnx file or a bundle.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    split: Annotated[str, typer.Option(help="Images that the model was not trained on.")] = "test",
    limit: Annotated[int, typer.Option(help="Images to measure, drawn by the seed.", min=2)] = 2000,
    size: Size = None,
    channels: Channels = None,
    root: Root = None,
    seed: Seed = 0,
    trust_factory: TrustFactory = False,
    as_json: Json = False,
) -> None:
    """Measure shares of classes and features of images like those that honest tenants send."""
    import torch

    from doorward.data import load, to_pixels
    from doorward.files import write_json
    from doorward.serving.gateway import Graph, onnx_of, reference_of

    source = load(data, split=split, root=root, size=size, channels=channels)
    if limit < len(source):
        source = source.sample(limit, seed=seed, balanced=False)
    pixels = to_pixels(source.fetch(torch.arange(len(source)))[0]).cpu().numpy()
    measured = reference_of(Graph(onnx_of(model, trust_factory=trust_factory)), pixels)
    write_json(out, measured.to_dict())
    answer(
        {"out": str(out), **measured.to_dict()},
        as_json=as_json,
        lines=f"{out}  measured on {measured.images} images of {source.name} ({split})",
    )
