"""``doorward watermark dispute``: two owners of one model, and whose mark was there first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer
from doorward.cli.keys import passphrase
from doorward.cli.options import Channels, Size, TrustFactory
from doorward.cli.watermark.dating import moment
from doorward.cli.watermark.group import group
from doorward.errors import BadFile, InvalidInput

if TYPE_CHECKING:
    from doorward.watermark.disputes import Evidence, Party

__all__ = ["dispute"]

Files = list[Path]
_NONE = "none"


@group.command(
    epilog="Example: doorward watermark dispute disputed.model --claim ada.json --key ada.mark "
    "--public ada.pub.json --claim eve.json --key eve.mark --public eve.pub.json --stamp ada.tsr "
    "--authority tsa.pem --data cifar10"
)
def dispute(
    suspect: Annotated[str, typer.Argument(help="The disputed model; with --data, a bundle.")],
    claim: Annotated[Files, typer.Option(help="The claims: give it twice.")],
    key: Annotated[Files, typer.Option(help="The sealed keys, in the order of the claims.")],
    public: Annotated[
        Files, typer.Option(help="The parties' public identities, from sources you trust.")
    ],
    stamp: Annotated[
        Files | None, typer.Option(help="A time stamp (.tsr) of either claim; may be repeated.")
    ] = None,
    authority: Annotated[
        Files | None, typer.Option(help="Root certificates of authorities that you trust (PEM).")
    ] = None,
    paper: Annotated[
        Files | None, typer.Option(help="A witness's statement on either claim; may be repeated.")
    ] = None,
    witness: Annotated[
        Files | None, typer.Option(help="Public identity of a witness that you trust.")
    ] = None,
    beacons: Annotated[
        Path | None,
        typer.Option(help="JSON: beacon value -> when it was published. Your own knowledge."),
    ] = None,
    exhibit: Annotated[
        list[str] | None,
        typer.Option(help="A model that a party shows, in the order of the claims; or 'none'."),
    ] = None,
    control: Annotated[
        list[str] | None, typer.Option(help="An independent model of the task; may be repeated.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Clean images: fine-tune copies, see which mark fades.")
    ] = None,
    images: Annotated[int, typer.Option(help="Clean images to use, at most.", min=1)] = 10_000,
    epochs: Annotated[float, typer.Option(help="Passes in each fine-tuning.")] = 2.0,
    size: Size = None,
    channels: Channels = None,
    root: Root = None,
    trust_factory: TrustFactory = False,
    passphrase_file: Annotated[
        Files | None,
        typer.Option(help="The keys' passphrases: one file for both, or one for each."),
    ] = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Settle a dispute: is the model the first claim's (0), or not, or open (1)?

    Both marks are verified; then it is asked whose was there first: by time stamps, by fine-tuning
    copies of the model (with --data), and by models that the parties show (--exhibit).
    """
    from doorward.bundles import open_black_box, open_model
    from doorward.watermark.disputes import drills, settle

    _pairs(claim=claim, key=key, public=public)
    evidence = _evidence(stamp, authority, paper, witness, beacons)
    parties = _parties(claim, key, public, passphrase_file, exhibit)
    if data is None:
        model: Any = open_black_box(suspect, trust_factory=trust_factory)
        clean = None
    else:
        from doorward.data import load

        model = open_model(suspect, trust_factory=trust_factory)
        clean = load(data, root=root, size=size, channels=channels)
        clean = clean.sample(images, seed=seed) if len(clean) > images else clean
    result = settle(
        model,
        *parties,
        evidence=evidence,
        clean=clean,
        fine_tunings=drills(epochs=epochs),
        controls=control or (),
        seed=seed,
        device=device,
    )
    answer(result.to_dict(), as_json=as_json, lines=result.explain(), yes=result.winner == 0)


def _pairs(**given: Sequence[Any]) -> None:
    for name, values in given.items():
        if len(values) != 2:
            raise InvalidInput(
                f"--{name} was given {len(values)} time(s)",
                why="a dispute has two parties",
                remedy=f"give --{name} twice, the party that asks first",
            )


def _parties(
    claims: Files, keys: Files, publics: Files, phrases: Files | None, exhibits: list[str] | None
) -> list[Party]:
    from doorward.bundles import PublicIdentity
    from doorward.watermark import Claim, WatermarkKey
    from doorward.watermark.disputes import Party

    files: list[Path | None] = list(phrases) if phrases else [None]
    shown = exhibits or [_NONE, _NONE]
    if len(files) > 2 or len(shown) != 2:
        raise InvalidInput(
            f"{len(files)} passphrase files and {len(shown)} exhibits",
            why="one passphrase file for both keys or one for each; an exhibit of each party",
            remedy=f"write --exhibit {_NONE} for a party that shows no model",
        )
    parties = []
    for place in range(2):
        identity = PublicIdentity.load(publics[place])
        opened = WatermarkKey.open(
            keys[place], passphrase(files[place % len(files)], what=str(keys[place]))
        )
        model = None if shown[place] == _NONE else shown[place]
        claim = Claim.load(claims[place], identity)
        parties.append(Party(claim=claim, key=opened, public=identity, exhibit=model))
    return parties


def _evidence(
    stamps: Files | None,
    authorities: Files | None,
    papers: Files | None,
    witnesses: Files | None,
    beacons: Path | None,
) -> Evidence:
    from doorward.bundles import PublicIdentity
    from doorward.bundles.documents import read_limited, read_object
    from doorward.watermark.disputes import Evidence, read_authorities

    return Evidence(
        stamps=[read_limited(path) for path in stamps or ()],
        papers=[read_object(path) for path in papers or ()],
        authorities=[one for path in authorities or () for one in read_authorities(path)],
        witnesses=[PublicIdentity.load(path) for path in witnesses or ()],
        beacons={} if beacons is None else _beacons(beacons, read_object(beacons)),
    )


def _beacons(path: Path, content: dict[str, Any]) -> dict[str, datetime]:
    try:
        return {value: moment(str(said), f"{value:.40}") for value, said in content.items()}
    except InvalidInput as error:
        raise BadFile(
            f"{path} is no list of beacons",
            why=str(error),
            remedy='write {"value": "2026-01-01T00:00:00Z", ...}',
        ) from error
