"""``doorward poison``: plant a known backdoor in a model, to have something to test defences on.

::

    doorward poison --list
    doorward poison --data digits --attack badnets --target 3 --out victim.model
    doorward poison --data digits --attack input-aware --constant width=8 --out victim.model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Data, Device, Devices, Json, Precision, Root, Seed, answer, table
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
from doorward.cli.planted import before_and_after, figures

if TYPE_CHECKING:
    from doorward.poisoning import Procedure

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward poison --data digits --attack badnets --out victim.model"
    )(poison)


def _complete_attack(incomplete: str) -> list[str]:
    from doorward.poisoning import ATTACKS

    return [name for name in ATTACKS if name.startswith(incomplete)]


def _list_attacks(wanted: bool) -> None:
    if not wanted:
        return
    from doorward.poisoning import ATTACKS

    rows = []
    for name in ATTACKS:
        facts = ATTACKS.facts(name)
        share = f"{facts['rate']:.0%} of {facts['share_of']}"
        rows.append([name, facts["rule"], share, facts["paper"], ATTACKS.summary(name)])
    typer.echo(table(["attack", "labels", "poisoned", "paper", "what it does"], rows))
    raise typer.Exit


def poison(
    data: Data,
    out: Out,
    attack: Annotated[
        str, typer.Option(help="A named attack (see --list).", autocompletion=_complete_attack)
    ] = "badnets",
    list_attacks: Annotated[
        bool,
        typer.Option("--list", help="Show all attacks.", is_eager=True, callback=_list_attacks),
    ] = False,
    constant: Annotated[
        list[str] | None,
        typer.Option(
            help="A constant of an attack that prepares or trains its trigger, as name=value; may "
            "be repeated.",
            show_default=False,
        ),
    ] = None,
    target: Annotated[int, typer.Option(help="The attacker's class.")] = 0,
    rate: Annotated[
        float | None,
        typer.Option(
            help="Share of images poisoned. Default: the one of its paper.", show_default=False
        ),
    ] = None,
    backdoor: Annotated[
        Path | None,
        typer.Option(
            help="Folder for trigger and label rule. Default: OUT.backdoor.", show_default=False
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option(help="PNG of images before and after. Default: OUT.png."),
    ] = None,
    twin: Annotated[
        bool,
        typer.Option(
            "--twin",
            help="Train an innocent twin, too (same recipe and seed, clean images): how often does "
            "the trigger fool it? Takes as long again.",
        ),
    ] = False,
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
    """Train a victim with a backdoor; report accuracy and attack success, store both.

    The bundle says beside the weights what was planted (evidence/backdoor.json), so nobody takes
    it for a clean model. For research and for testing defences, on models of your own.
    """
    from doorward.cli.options import (
        load_pair,
        make_model,
        make_recipe,
        require_free,
        require_writable,
        store_model,
    )
    from doorward.files import atomic_file
    from doorward.poisoning import innocent_twin, plant
    from doorward.training import is_main_process

    require_free(out)
    folder = backdoor or out.with_name(out.name + ".backdoor")
    _require_free(folder, out)
    place = picture or out.with_name(out.name + ".png")
    require_writable(folder)
    require_writable(place, file=True)
    chosen = _chosen(attack, constant)
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
    changes = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "precision": precision}
    recipe = make_recipe(data, net, quick=quick, seed=seed, **changes)
    planted, result = plant(
        net,
        train_set,
        chosen,
        recipe,
        target=target,
        rate=rate,
        seed=seed,
        test=test_set,
        device=device,
        devices=devices,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    innocent = None
    if twin:
        fresh = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
        innocent = innocent_twin(
            fresh, train_set, planted, recipe, test=test_set, device=device, devices=devices,
            progress=True,
        )  # fmt: skip
    if not is_main_process():
        return
    metrics = {"accuracy": result.accuracy, "attack_success": result.attack_success}
    evidence = {"backdoor.json": result.backdoor}
    store_model(net, out, recipe=recipe, metrics=metrics, evidence=evidence)
    planted.save(folder)
    drawn = before_and_after(test_set.sample(10, seed=seed), planted)
    with atomic_file(place) as temporary:
        drawn.save(temporary, format="PNG")
    places = {"model": str(out), "backdoor_folder": str(folder), "picture": str(place)}
    answer(
        {
            **places,
            "attack": attack,
            **result.to_dict(),
            "twin": None if innocent is None else innocent.to_dict(),
        },
        as_json=as_json,
        lines=[
            *figures(result, innocent),
            f"{result.poisoned} of {len(train_set)} training images were poisoned",
            f"Model: {out}   Backdoor: {folder}   Picture: {place}",
        ],
    )


def _chosen(attack: str, constants: list[str] | None) -> str | Procedure:
    """The attack by its name, or the procedure with these constants."""
    from doorward.cli.options import parse_options
    from doorward.errors import InvalidInput
    from doorward.poisoning import ATTACKS

    entry: Any = ATTACKS[attack]
    if not constants:
        return attack
    if not isinstance(entry, type):
        raise InvalidInput(
            f"{attack} takes no --constant",
            why="only attacks that prepare or train their trigger have constants to choose",
            remedy="for other triggers, use doorward.poisoning.implant in Python",
        )
    procedure: Procedure = entry.from_dict(parse_options(constants))  # type: ignore[attr-defined]
    return procedure


def _require_free(folder: Path, out: Path) -> None:
    """Refuse, before the training, a place for the backdoor where something else is."""
    from doorward.errors import InvalidInput

    if folder.resolve() == out.resolve():
        raise InvalidInput(
            f"{folder} cannot hold both the model and the backdoor",
            remedy="choose another --backdoor",
        )
    known = folder.is_dir() and (folder / "trigger.json").is_file()
    if folder.exists() and not known and (folder.is_file() or any(folder.iterdir())):
        raise InvalidInput(
            f"{folder} exists and is not a backdoor's folder",
            why="saving would replace it",
            remedy="choose another --backdoor",
        )
