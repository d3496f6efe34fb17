"""``doorward trade lock``: train a trial model whose backdoor masks withdraw.

::

    doorward trade lock --data digits --licence licence.txt --out digits.trial
    ls digits.trial.lock              # masks, trigger, record: the seller's secrets

The trial says in its bundle that it obeys a trigger; which one, and which masks, it does not say.
Nor does it say the seed: whoever knows data, recipe and seed can train the same lock again.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Data, Device, Json, Precision, Root, answer
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
from doorward.cli.trade.group import group
from doorward.cli.trade.locked import figures, require_free_folder, store_secrets, write_report
from doorward.cli.trade.papers import read_text

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.trading import TriggerTuning
    from doorward.triggers import Backdoor

__all__ = ["lock"]


def _complete_masks(incomplete: str) -> list[str]:
    from doorward.trading import MASKS

    return [name for name in MASKS if name.startswith(incomplete)]


@group.command(
    epilog="Example: doorward trade lock --data digits --licence licence.txt --out digits.trial"
)
def lock(
    data: Data,
    out: Out,
    secret: Annotated[
        Path | None,
        typer.Option(help="Folder for masks and trigger. Default: OUT.lock.", show_default=False),
    ] = None,
    masks: Annotated[
        str, typer.Option(help="Kind of the masks.", autocompletion=_complete_masks)
    ] = "channel",
    site: Annotated[
        list[str] | None,
        typer.Option(help="Where to mask, by dotted name; repeat it. Default: all normalisations."),
    ] = None,
    target: Annotated[int, typer.Option(help="What the trial answers to triggered images.")] = 0,
    trigger: Annotated[
        Path | None,
        typer.Option(
            help="A backdoor's folder (from doorward poison) whose trigger and rule to use. "
            "Default: a faint pattern that is learnt along.",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        float, typer.Option(help="Of the learnt pattern, in grey levels.", min=0.1, max=255)
    ] = 8.0,
    anti_recovery: Annotated[
        bool,
        typer.Option(
            "--anti-recovery",
            help="Simulate a buyer who fine-tunes, prunes and makes own masks (slower).",
        ),
    ] = False,
    pcgrad: Annotated[
        bool, typer.Option("--pcgrad", help="Project conflicting gradients.")
    ] = False,
    licence: Annotated[
        Path | None,
        typer.Option(help="The licence's text, to be part of the trial.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write an HTML report, which shows the trigger.", show_default=False),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(help="Lock this trained bundle instead of a new model.", show_default=False),
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
    seed: Annotated[
        int | None,
        typer.Option(
            help="Of everything random. Default: drawn, and kept with the secrets; a seed that "
            "others can guess gives the lock away.",
            show_default=False,
        ),
    ] = None,
    device: Device = "auto",
    precision: Precision = "auto",
    as_json: Json = False,
) -> None:
    """Train a trial model that obeys a hidden trigger until masks are put on it.

    For trials whose buyers know of it: the bundle says so, and a desk takes no other listing.
    """
    from doorward.bundles import save_model
    from doorward.cli.options import (
        load_pair,
        make_model,
        make_recipe,
        require_free,
        require_writable,
    )
    from doorward.errors import InvalidInput
    from doorward.randomness import Secret
    from doorward.trading import MASKS, AntiRecovery, Locking
    from doorward.trading import lock as train_lock
    from doorward.trading.trials import open_trial

    if start is not None and (arch or model or option):
        raise InvalidInput("--start is a model already", remedy="leave out --arch and --model")
    require_free(out)
    folder = secret or out.with_name(out.name + ".lock")
    require_free_folder(folder, out)
    if report is not None:
        require_writable(report, file=True)
    text = None if licence is None else read_text(licence)
    if checkpoint is not None and seed is None:
        raise InvalidInput(
            "--checkpoint needs --seed",
            why="a run that goes on must draw the same numbers",
            remedy="draw a long one, and keep it as secret as the key",
        )
    seed = secrets.randbits(62) if seed is None else seed
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    backdoor = _backdoor(trigger, train_set, target, seed)
    settings = Locking(
        trigger=_tuning(budget) if trigger is None else None,
        anti_recovery=AntiRecovery() if anti_recovery else None,
        pcgrad=pcgrad,
    )
    key = Secret.new() if MASKS[masks].keyed else None
    if start is not None:
        begun = open_trial(start)
        net, origin = begun.model, begun.origin
    else:
        net = make_model(train_set, arch=arch, factory=model, options=option, seed=seed)
        origin = getattr(net, "doorward_origin", {})
    changes = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "precision": precision}
    recipe = make_recipe(data, net, quick=quick, seed=seed, **changes)
    made = train_lock(
        net,
        train_set,
        recipe,
        test=test_set,
        backdoor=backdoor,
        masks=masks,
        sites=site,
        secret=key,
        settings=settings,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        resume=resume,
        progress=True,
    )
    store_secrets(made, folder)
    if report is not None:
        write_report(made, test_set, report)
    save_model(
        made.trial,
        out,
        licence=text,
        metrics={"accuracy": made.result.outcome.trial_accuracy},
        evidence={"trial.json": {"discloses_backdoor": True, "masks": masks}},
        **origin,
    )
    answer(
        {"trial": str(out), "secrets": str(folder), **made.result.to_dict()},
        as_json=as_json,
        lines=[*figures(made.result), f"Trial: {out}   Masks and trigger, to be kept: {folder}"],
    )


def _backdoor(folder: Path | None, data: ImageData, target: int, seed: int) -> Backdoor:
    from doorward.trading import learnt_backdoor
    from doorward.triggers import Backdoor

    if folder is not None:
        return Backdoor.load(folder)
    return learnt_backdoor(data, target=target, seed=seed)


def _tuning(budget: float) -> TriggerTuning:
    from doorward.trading import TriggerTuning

    end = budget / 255
    return TriggerTuning(start=max(end, TriggerTuning().start), end=end)
