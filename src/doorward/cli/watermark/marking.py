"""``doorward watermark keygen|embed``: draw a key, and plant it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Data, Device, Devices, Json, Precision, Root, Seed, answer
from doorward.cli.keys import PassphraseFile, passphrase
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
from doorward.cli.watermark.group import KeyFile, group

if TYPE_CHECKING:
    from doorward.watermark import EmbedResult

__all__ = ["embed", "keygen"]


def _complete_method(incomplete: str) -> list[str]:
    from doorward.watermark import EMBEDDINGS

    return [name for name in EMBEDDINGS if name.startswith(incomplete)]


@group.command(
    epilog="Example: doorward watermark keygen mark.key --data digits --owner ada.pub.json"
)
def keygen(
    path: Annotated[Path, typer.Argument(help="The sealed key to write.")],
    owner: Annotated[
        Path | None,
        typer.Option(help="Your public identity: only you can then claim with this key."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Take classes and image shape from this data set.")
    ] = None,
    classes: Annotated[int | None, typer.Option(help="Number of classes, else.", min=2)] = None,
    size: Size = None,
    channels: Channels = None,
    n: Annotated[int, typer.Option("--n", help="Trigger images.", min=1)] = 100,
    generator: Annotated[
        str | None,
        typer.Option(help="What draws the images. Default: the usual one.", show_default=False),
    ] = None,
    beacon: Annotated[
        str | None,
        typer.Option(
            help="A public random value of today (a beacon's round, a block's hash): the key is "
            "then provably not older than it.",
        ),
    ] = None,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw a watermark key from the system's random numbers and seal it.

    With --data, classes and image shape are those of the data set; else give --classes, --size
    and --channels.
    """
    from doorward.bundles import PublicIdentity
    from doorward.errors import InvalidInput
    from doorward.watermark import WatermarkKey
    from doorward.watermark.patterns import DEFAULT_GENERATOR

    if data is not None:
        from doorward.data import load

        source = load(data, root=root, size=size, channels=channels)
        count, shape = source.num_classes, source.image_shape
    elif classes is None or size is None:
        raise InvalidInput(
            "the key's classes and image shape are unknown",
            remedy="give --data, or --classes, --size and --channels",
        )
    else:
        count, shape = classes, (channels or 3, size, size)
    public = None if owner is None else PublicIdentity.load(owner)
    key = WatermarkKey.new(
        n=n,
        classes=count,
        image_shape=shape,
        owner=public,
        generator=generator or DEFAULT_GENERATOR,
        beacon=beacon,
    )
    key.seal(path, passphrase(passphrase_file, what=str(path), repeat=True))
    answer(
        {"key": str(path), "commitment": key.commitment(), **key.parameters.to_dict()},
        as_json=as_json,
        lines=[
            f"{path}  {n} triggers {'x'.join(map(str, shape))} for {count} classes, sealed",
            f"commitment  {key.commitment()}",
            *([f"beacon  {beacon}: the key is not older than that"] if beacon else []),
            "Claim it now (doorward watermark claim), before the model leaves the house.",
        ],
    )


@group.command(
    epilog="Example: doorward watermark embed mark.key --data digits --method app "
    "--method-option eps=0.05 --out mine.model"
)
def embed(
    key: KeyFile,
    data: Data,
    out: Out,
    into: Annotated[
        Path | None,
        typer.Option(help="A trained bundle to mark; without it, a new model is trained."),
    ] = None,
    arch: Architecture = None,
    model: Factory = None,
    option: Options = None,
    method: Annotated[
        str,
        typer.Option(
            help="How triggers are learnt: plain, app, margin, certified, app-margin, ...",
            autocompletion=_complete_method,
        ),
    ] = "plain",
    method_option: Annotated[
        list[str] | None,
        typer.Option(
            help="An option of the method, as name=value (eps=0.05); may be repeated.",
            show_default=False,
        ),
    ] = None,
    per_batch: Annotated[
        int | None,
        typer.Option(help="Triggers per batch. Default: as many as needed.", show_default=False),
    ] = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    quick: Quick = False,
    size: Size = None,
    channels: Channels = None,
    checkpoint: Checkpoint = None,
    resume: Resume = True,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    as_json: Json = False,
) -> None:
    """Train a marked model from scratch, or mark a trained one (--into).

    The other methods are meant to make the mark harder to remove than the plain one (what of that
    was measured is in the guide "Prove a model is yours"); what certified learns, the command
    certify can certify.
    """
    from doorward.bundles import open_model
    from doorward.cli.options import (
        load_pair,
        make_model,
        make_recipe,
        parse_options,
        require_free,
        store_model,
    )
    from doorward.errors import InvalidInput
    from doorward.training import is_main_process
    from doorward.watermark import WatermarkKey, make_embedding, pretrained_recipe
    from doorward.watermark import embed as embed_mark

    if into is not None and (arch or model or option):
        raise InvalidInput(
            "--into was given with --arch, --model or --option",
            why="the bundle says itself what model it is",
            remedy="leave those out, or leave out --into to train from scratch",
        )
    embedding = make_embedding(method, parse_options(method_option))
    require_free(out)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    changes = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "precision": precision}
    if into is None:
        net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
        recipe = make_recipe(data, net, quick=quick, seed=seed, **changes)
    else:
        import dataclasses

        net = open_model(str(into))
        known = make_recipe(data, net, quick=quick, seed=seed)
        recipe = pretrained_recipe(known, images=len(train_set), n=opened.n)
        given: dict[str, Any] = {
            name: value for name, value in changes.items() if value is not None
        }
        recipe = dataclasses.replace(recipe, **given)
    result = embed_mark(
        net,
        train_set,
        opened,
        recipe,
        mode="from-scratch" if into is None else "pretrained",
        method=embedding,
        per_batch="auto" if per_batch is None else per_batch,
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
        {"model": str(out), **result.to_dict(), "warnings": _too_few(result)},
        as_json=as_json,
        lines=[
            f"Test accuracy {result.accuracy:.2%}"
            + (f" (before: {result.accuracy_before:.2%})" if result.accuracy_before else ""),
            f"Triggers answered with the key's label: {result.trigger_matches} of {result.n} "
            f"(p = 2^{result.log2_p:.1f})",
            *_too_few(result),
            f"Model: {out}",
        ],
    )


def _too_few(result: EmbedResult) -> list[str]:
    """A warning, where the marked model itself would not pass a claim of the usual strictness."""
    from doorward.watermark.claim import PROVEN
    from doorward.watermark.lots import matches_needed

    needed = matches_needed(result.n, result.classes, PROVEN)
    if needed is not None and result.trigger_matches >= needed:
        return []
    asked = "more triggers than the key has" if needed is None else f"{needed} matches"
    return [
        f"WARNING: a claim that asks for p <= 2^{PROVEN:.0f}, the usual one, needs {asked}: this "
        "model would not verify. Train for more --epochs, show more triggers --per-batch, or use "
        "a wider network (or a key with more triggers: watermark keygen --n)."
    ]
