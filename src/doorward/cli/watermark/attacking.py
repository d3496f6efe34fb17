"""``doorward watermark attack``: what does my mark withstand?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Data, Device, Json, Root, Seed, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import Channels, Epochs, Quick, Size, TrustFactory
from doorward.cli.watermark.attacked import attack_lines, open_mark, several, write_report
from doorward.cli.watermark.group import group

__all__ = ["attack"]


class Statistics(StrEnum):
    """What becomes of BatchNorm's statistics."""

    TRAIN = "train"
    FROZEN = "frozen"


@group.command(
    epilog="Example: doorward watermark attack mine.model --key mark.key --data digits --quick"
)
def attack(
    model: Annotated[Path, typer.Argument(help="The bundle of the marked model.")],
    key: Annotated[
        Path, typer.Option(help="The sealed watermark key, or the marking key of the paper (mk).")
    ],
    data: Data,
    thief_data: Annotated[
        str | None,
        typer.Option(
            help="Labelled images of the attacker. Default: the training images themselves, the "
            "strongest attacker of the paper.",
            show_default=False,
        ),
    ] = None,
    share: Annotated[
        float, typer.Option(help="Of those images, what the attacker has.", min=0.001, max=1)
    ] = 1.0,
    other: Annotated[
        str, typer.Option(help="Data set of another task, for the transfer attack.")
    ] = "digits",
    family: Annotated[
        list[str] | None,
        typer.Option(
            help="Only attacks of this family; may be repeated: fine-tuning, pruning, "
            "quantisation, unlearning, overwriting, transfer, distillation, extraction.",
            show_default=False,
        ),
    ] = None,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="Learning rate of fine-tuning; may be repeated. Default: 1e-4 to 5e-2.",
            show_default=False,
        ),
    ] = None,
    fraction: Annotated[
        list[float] | None,
        typer.Option(
            help="Of the attacker's images, a share that FTAL uses; may be repeated. Default: 1.",
            min=0.001,
            max=1,
            show_default=False,
        ),
    ] = None,
    batchnorm: Annotated[
        Statistics,
        typer.Option(
            help="While fine-tuning, BatchNorm's statistics drift to the attacker's images (train, "
            "as in the paper's code) or stay (frozen)."
        ),
    ] = Statistics.TRAIN,
    seeds: Annotated[
        int,
        typer.Option(
            help="Attackers to average over, from --seed on; each has a table of its own.", min=1
        ),
    ] = 1,
    epochs: Epochs = None,
    quick: Quick = False,
    out: Annotated[
        Path,
        typer.Option(
            help="The table as JSON; an interrupted one is taken up again, with the same options "
            "(--family may differ). Of several seeds: NAME-seed0.json and so on."
        ),
    ] = Path("attacks.json"),
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report too.", show_default=False)
    ] = None,
    alpha_bits: Annotated[
        float, typer.Option(help="The mark counts as proven at 2^-BITS.", min=1, max=1000)
    ] = 30,
    most_cost: Annotated[
        float, typer.Option(help="Points of accuracy an attacker is ready to lose.", min=0)
    ] = 2.0,
    size: Size = None,
    channels: Channels = None,
    root: Root = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Attack copies of your marked model in every known way: does the mark survive? yes 0, no 1.

    Fine-tuning in four forms over learning rates, pruning, quantisation, unlearning, overwriting,
    transfer, distillation and extraction. The mark survives if it is still proven after every
    attack that costs at most --most-cost points of accuracy; with --seeds, in every one of them.
    """
    import dataclasses

    from doorward.bundles import open_model
    from doorward.cli.options import load_pair, make_recipe
    from doorward.data import load
    from doorward.watermark.suite import FAMILIES, RATES, Thief, attack_table, standard_attacks

    opened = open_mark(key, passphrase(passphrase_file, what=str(key)))
    net = open_model(str(model), trust_factory=trust_factory)
    train_set, test_set = load_pair(data, root=root, size=size, channels=channels)
    held = train_set
    if thief_data is not None:
        held = load(thief_data, root=root, size=size, channels=channels)
    if share < 1:
        held = held.sample(max(held.num_classes, round(share * len(held))), seed=seed)
    families = family or list(FAMILIES)
    recipe = make_recipe(data, net, quick=quick, seed=seed, epochs=epochs)
    if "transfer" in families and Path(other).name == Path(data).name:
        note(f"transfer: {other} is the model's own task; name another one with --other")
    attacks = standard_attacks(
        families=families,
        epochs=recipe.epochs,
        rates=rate or RATES,
        shares=fraction or (1.0,),
        augment=recipe.augment,
        batchnorm=batchnorm.value,
    )
    thief = Thief(
        data=held,
        recipe=recipe,
        # Also where nothing is transferred: the file names it, and other families may follow.
        other=load(other, root=root),
        seed=seed,
        device=device,
    )
    tables = []
    for number in range(seed, seed + seeds):
        which = "" if seeds == 1 else f"seed {number}, "
        done = attack_table(
            net,
            opened,
            dataclasses.replace(thief, seed=number),
            test_set,
            attacks,
            carriers=test_set,
            path=out if seeds == 1 else out.with_name(f"{out.stem}-seed{number}{out.suffix}"),
            on_row=lambda row, which=which: note(  # type: ignore[misc]
                f"{which}{row.attack.label}: {row.matches} of {row.n} match"
            ),
        )
        tables.append(done)
    if report is not None:
        write_report(
            report, tables, subject=f"{model} and its key {key}", log2_alpha=-alpha_bits,
            most_cost=most_cost,
        )  # fmt: skip
    worst = max((done.worst(most_cost) for done in tables), key=lambda row: row.proof)
    survived = worst.survived(-alpha_bits)
    content = tables[0].to_dict() if seeds == 1 else several(tables)
    answer(
        {"survived": survived, "worst": worst.attack.label, **content},
        as_json=as_json,
        lines=attack_lines(tables, log2_alpha=-alpha_bits, most_cost=most_cost),
        yes=survived,
    )
