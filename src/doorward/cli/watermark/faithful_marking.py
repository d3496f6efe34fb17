"""``doorward watermark paper mark``: the paper's training, from scratch or on a trained model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Data, Device, Devices, Json, Precision, Root, Seed, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import (
    Architecture,
    Channels,
    Checkpoint,
    Factory,
    Options,
    Out,
    Resume,
    Size,
)
from doorward.cli.watermark.faithful import paper

__all__ = ["mark"]


@paper.command(
    epilog="Example: doorward watermark paper mark mk.key --data digits --arch resnet8 "
    "--out m.model"
)
def mark(
    key: Annotated[Path, typer.Argument(help="The sealed marking key (mk).")],
    data: Data,
    out: Out,
    into: Annotated[
        Path | None,
        typer.Option(help="A trained bundle to mark (PreTrained); without it, FromScratch."),
    ] = None,
    arch: Architecture = None,
    model: Factory = None,
    option: Options = None,
    per_batch: Annotated[int, typer.Option(help="Triggers per batch (k).", min=1)] = 2,
    epochs: Annotated[int, typer.Option(help="Passes over the data.", min=1)] = 60,
    batch_size: Annotated[int, typer.Option(help="Clean images per step.", min=1)] = 100,
    warmup_epochs: Annotated[
        float,
        typer.Option(
            help="Of these, with a rising learning rate. The paper has none, which is unstable.",
            min=0,
        ),
    ] = 0.0,
    trained_epochs: Annotated[
        int,
        typer.Option(
            help="With --into: epochs of its training, where the schedule goes on.", min=1
        ),
    ] = 60,
    size: Size = None,
    channels: Channels = None,
    checkpoint: Checkpoint = None,
    resume: Resume = True,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "fp32",
    devices: Devices = 1,
    as_json: Json = False,
) -> None:
    """Train a marked model with the paper's recipe, or mark a trained one (--into)."""
    import dataclasses

    from doorward.bundles import open_model
    from doorward.cli.options import load_pair, make_model, make_recipe, require_free, store_model
    from doorward.errors import InvalidInput
    from doorward.training import is_main_process
    from doorward.watermark.adi import (
        PaperKey,
        paper_mark,
        paper_pretrained_recipe,
        paper_recipe,
    )

    if into is not None and (arch or model or option or warmup_epochs):
        raise InvalidInput(
            "--into was given with --arch, --model, --option or --warmup-epochs",
            why="the bundle says itself what model it is, and its training goes on",
            remedy="leave those out, or leave out --into to train from scratch",
        )
    require_free(out)
    opened = PaperKey.open(key, passphrase(passphrase_file, what=str(key)))
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    if into is None:
        net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
    else:
        net = open_model(str(into))
    shared: dict[str, Any] = {
        "batch_size": batch_size,
        "augment": make_recipe(data, net, seed=seed).augment,
        "seed": seed,
    }
    if into is None:
        recipe = paper_recipe(epochs, warmup_epochs=warmup_epochs, **shared)
    else:
        recipe = paper_pretrained_recipe(epochs, trained=trained_epochs, **shared)
    recipe = dataclasses.replace(recipe, precision=precision)  # type: ignore[arg-type]
    result = paper_mark(
        net,
        train_set,
        opened,
        recipe,
        mode="from-scratch" if into is None else "pretrained",
        per_batch=per_batch,
        validation=test_set,
        device=device,
        devices=devices,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    if not is_main_process():
        return
    store_model(net, out, recipe=recipe, metrics={"accuracy": result.accuracy})
    answer(
        {"model": str(out), **result.to_dict()},
        as_json=as_json,
        lines=[
            f"Test accuracy {result.accuracy:.2%}",
            f"Pictures answered with the key's label: {result.trigger_matches} of {result.n}",
            f"Model: {out}",
        ],
    )
