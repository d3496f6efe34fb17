"""``doorward train``: train a model of the zoo, or your own, and store it.

::

    doorward train --data digits --arch resnet8 --out digits.model
    doorward train --data photos --size 64 --model my_nets:small --out small.safetensors
"""

from __future__ import annotations

from typing import Annotated

import typer

from doorward.cli.common import Data, Device, Devices, Json, Precision, Root, Seed, answer
from doorward.cli.options import (
    Architecture,
    BatchSize,
    Channels,
    Checkpoint,
    Epochs,
    Factory,
    LearningRate,
    Options,
    Out,
    Quick,
    Resume,
    Size,
)

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: doorward train --data digits --arch resnet8 --out digits.model")(
        train
    )


def train(
    data: Data,
    out: Out,
    arch: Architecture = None,
    model: Factory = None,
    option: Options = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    quick: Quick = False,
    size: Size = None,
    channels: Channels = None,
    licence: Annotated[str | None, typer.Option(help="Licence to note in the bundle.")] = None,
    checkpoint: Checkpoint = None,
    resume: Resume = True,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    as_json: Json = False,
) -> None:
    """Train a classifier and write it as a model bundle.

    The recipe is the one known to work for the data set and architecture; options change it. With
    --checkpoint, an interrupted run goes on exactly where it was when the same command is given
    again.
    """
    from doorward.cli.options import load_pair, make_model, make_recipe, require_free, store_model
    from doorward.training import fit, is_main_process

    require_free(out)
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
    recipe = make_recipe(
        data,
        net,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        precision=precision,
        seed=seed,
        quick=quick,
    )
    result = fit(
        net,
        None,
        train_set,
        recipe,
        validation=test_set,
        device=device,
        devices=devices,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    if not is_main_process():
        return
    accuracy = result.final["validation_accuracy"]
    store_model(net, out, recipe=recipe, metrics={"accuracy": accuracy}, licence=licence)
    answer(
        {"model": str(out), "accuracy": accuracy, "fit": result.to_dict()},
        as_json=as_json,
        lines=[
            f"Test accuracy {accuracy:.2%} after {result.epochs:g} epochs in "
            f"{result.seconds:.0f} s ({result.samples_per_second:.0f} images/s)",
            f"Model: {out}",
        ],
    )
