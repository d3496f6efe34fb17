"""``doorward poison``: plant a known backdoor in a model, to have something to test defences on.

::

    doorward poison --data digits --attack badnets --target 3 --out victim.model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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

if TYPE_CHECKING:
    from PIL.Image import Image

    from doorward.data import ImageData
    from doorward.triggers import Backdoor

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward poison --data digits --attack badnets --out victim.model"
    )(poison)


def _complete_attack(incomplete: str) -> list[str]:
    from doorward.poisoning import ATTACKS

    return [name for name in ATTACKS if name.startswith(incomplete)]


def poison(
    data: Data,
    out: Out,
    attack: Annotated[
        str, typer.Option(help="A named attack.", autocompletion=_complete_attack)
    ] = "badnets",
    target: Annotated[int, typer.Option(help="The attacker's class.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Share of images poisoned. Default: the one of its paper.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="PNG of images before and after. Default: OUT.png."),
    ] = None,
    arch: Architecture = None,
    model: Factory = None,
    option: Options = None,
    epochs: Epochs = None,
    lr: LearningRate = None,
    batch_size: BatchSize = None,
    quick: Quick = False,
    size: Size = None,
    channels: Channels = None,
    checkpoint: Checkpoint = None,
    resume: Resume = True,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Devices = 1,
    as_json: Json = False,
) -> None:
    """Train a victim on poisoned data; report accuracy and attack success, store the model.

    The bundle keeps the backdoor beside the weights (evidence/backdoor.json), so nobody takes it
    for a clean model. For research and for testing defences, on models of your own.
    """
    from doorward.cli.options import load_pair, make_model, make_recipe, require_free, store_model
    from doorward.files import atomic_file
    from doorward.poisoning import attack as named_attack
    from doorward.poisoning import default_rate, implant
    from doorward.training import is_main_process

    require_free(out)
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    backdoor = named_attack(
        attack,
        image_shape=train_set.image_shape,
        target=target,
        classes=train_set.num_classes,
        seed=seed,
    )
    net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
    changes = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "precision": precision}
    recipe = make_recipe(data, net, quick=quick, seed=seed, **changes)
    result = implant(
        net,
        train_set,
        backdoor,
        recipe,
        rate=default_rate(attack) if rate is None else rate,
        seed=seed,
        test=test_set,
        device=device,
        devices=devices,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    if not is_main_process():
        return
    metrics = {"accuracy": result.accuracy, "attack_success": result.attack_success}
    evidence = {"backdoor.json": result.backdoor}
    store_model(net, out, recipe=recipe, metrics=metrics, evidence=evidence)
    place = picture or out.with_name(out.name + ".png")
    drawn = before_and_after(test_set.sample(10, seed=seed), backdoor)
    with atomic_file(place) as temporary:
        drawn.save(temporary, format="PNG")
    low, high = result.attack_interval
    answer(
        {"model": str(out), "picture": str(place), "attack": attack, **result.to_dict()},
        as_json=as_json,
        lines=[
            f"Test accuracy {result.accuracy:.2%}",
            f"Attack success {result.attack_success:.2%} of {result.attack_images} triggered "
            f"images (95 % interval {low:.2%} to {high:.2%})",
            f"{result.poisoned} of {len(train_set)} training images were poisoned",
            f"Model: {out}   Picture: {place}",
        ],
    )


def before_and_after(images: ImageData, backdoor: Backdoor) -> Image:
    """Images above, the same images with the trigger below."""
    import torch

    from doorward.data import grid

    clean = images.pixels()
    return grid(torch.cat([clean, backdoor.trigger(clean)]), columns=len(images), scale=2)
