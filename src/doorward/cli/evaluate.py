"""``doorward eval``: the accuracy of any model, from its answers, with a confidence interval.

::

    doorward eval digits.model --data digits
    doorward eval http://localhost:8000/v2/models/digits --data digits --limit 500
"""

from __future__ import annotations

from typing import Annotated

import typer

from doorward.cli.common import BatchSize, Data, Device, Json, Root, Seed, answer
from doorward.cli.options import Channels, Size, TrustFactory

__all__ = ["add_to"]

CONFIDENCE = 0.95


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("eval", epilog="Example: doorward eval digits.model --data digits --json")(evaluate)


def evaluate(
    target: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    data: Data,
    split: Annotated[str, typer.Option(help="train or test; some sets have more.")] = "test",
    limit: Annotated[
        int | None,
        typer.Option(help="Ask for this many images only, drawn by the seed.", min=1),
    ] = None,
    size: Size = None,
    channels: Channels = None,
    batch_size: BatchSize = 256,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure the accuracy of a model on a data set, with its exact 95 % interval."""
    import torch

    from doorward.bundles import open_black_box
    from doorward.cli.options import import_from_here
    from doorward.data import load, to_pixels
    from doorward.errors import InvalidInput
    from doorward.metrics import clopper_pearson
    from doorward.training.distributed import resolve_device

    import_from_here()
    images = load(data, split=split, root=root, size=size, channels=channels)
    if limit is not None and limit < len(images):
        images = images.sample(limit, seed=seed, balanced=False)
    box = open_black_box(target, trust_factory=trust_factory, device=resolve_device(device))
    if box.num_classes is not None and box.num_classes != images.num_classes:
        raise InvalidInput(
            f"the model has {box.num_classes} classes",
            why=f"{images.name} has {images.num_classes}",
            remedy="evaluate it on the data set that it was trained for",
        )
    correct = 0
    for start in range(0, len(images), batch_size):
        rows = images.labels[start : start + batch_size]
        pixels = to_pixels(images.fetch(torch.arange(start, start + len(rows)))[0])
        answers = box.labels(pixels)
        correct += int((answers.cpu() == rows.cpu()).sum())
    low, high = clopper_pearson(correct, len(images), CONFIDENCE)
    answer(
        {
            "target": target,
            "model": box.describe(),
            "data": images.name,
            "split": split,
            "images": len(images),
            "correct": correct,
            "accuracy": correct / len(images),
            "interval": [low, high],
            "confidence": CONFIDENCE,
        },
        as_json=as_json,
        lines=f"Accuracy {correct / len(images):.2%} ({correct} of {len(images)} images of "
        f"{images.name}, {split}); 95 % interval {low:.2%} to {high:.2%}",
    )
