"""``doorward distance``: how far apart are the classes of a model?

::

    doorward distance mine.model --data my-photos --out distances
    doorward distance mine.model --data cifar10 --split test --kind pixel --family flow
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer
from doorward.cli.distances import RESULT, distance_lines, report_distances, write_distances
from doorward.cli.options import Channels, Size, TrustFactory
from doorward.cli.suspects import CleanData, Labelled, Limit, Model, Split
from doorward.errors import InvalidInput

__all__ = ["add_to"]

_CLOSEST = 5


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: doorward distance mine.model --data my-photos --out distances")(
        distance
    )


def _complete_kind(incomplete: str) -> list[str]:
    from doorward.hardening import MEASURES

    return [name for name in MEASURES if name.startswith(incomplete)]


def _complete_family(incomplete: str) -> list[str]:
    from doorward.hardening import FAMILIES

    return [name for name in FAMILIES if name.startswith(incomplete)]


def distance(
    model: Model,
    data: CleanData,
    kind: Annotated[
        str,
        typer.Option(
            help="Of distance: patch (MOTH's), or of whole-image changes pixel, ssim, lpips, "
            "parameters.",
            autocompletion=_complete_kind,
        ),
    ] = "patch",
    family: Annotated[
        list[str] | None,
        typer.Option(
            help="Of whole-image changes: latent, colour, flow, kernel, additive, residual; may "
            "be repeated. Default: colour, flow, kernel, additive.",
            autocompletion=_complete_family,
            show_default=False,
        ),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this pair, SOURCE:TARGET by number or name; may be repeated.",
            show_default=False,
        ),
    ] = None,
    starts: Annotated[
        int, typer.Option(help="Random starts; the smallest distance counts.", min=1, max=100)
    ] = 3,
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="A number of the search, as name=value (epochs=400); may be repeated. Such "
            "distances can be compared among themselves only.",
            show_default=False,
        ),
    ] = None,
    labels: Labelled = "given",
    images: Limit = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the result, a heat map and pictures of the closest pairs.",
            show_default=False,
        ),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report.", show_default=False)
    ] = None,
    split: Split = None,
    size: Size = None,
    channels: Channels = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure how small a change turns each class of a model into each other.

    Distances are found by a fixed attack, the same for every model. A small one between classes
    that look nothing alike is a natural backdoor. Pairs that the attack cannot reach are shown as
    such. About a hundred clean images of each class, unseen in training, give stable numbers.
    """
    from doorward.cli.options import parse_options
    from doorward.cli.suspects import clean_images, open_suspect
    from doorward.hardening import measure_distances, measuring

    if out is not None:
        _require_free(out)
    attack = measuring(
        kind,  # type: ignore[arg-type]
        families=tuple(family) if family else None,
        starts=starts,
        **parse_options(option),
    )
    suspect = open_suspect(model, trust_factory=trust_factory)
    clean = clean_images(
        suspect, data, split=split, root=root, size=size, channels=channels, labels=labels,
        count=images, seed=seed,
    )  # fmt: skip
    names = suspect.classes or clean.classes
    result, found = measure_distances(
        suspect.model,
        clean,
        attack=attack,
        kind=attack.kind,
        pairs="all" if not pair else [_pair(words, names) for words in pair],
        seed=seed,
        device=device,
        labels=labels,  # type: ignore[arg-type]
        progress=True,
    )
    lines = distance_lines(result)
    if out is not None:
        write_distances(out, model, result, found, clean)
        lines.append(f"Result and pictures: {out}")
    if report is not None:
        report_distances(report, model, result, found, clean)
        lines.append(f"Report: {report}")
    answer(
        {
            "model": model,
            **result.to_dict(),
            "closest": [close._asdict() for close in result.closest(_CLOSEST)],
            "out": None if out is None else str(out),
            "report": None if report is None else str(report),
        },
        as_json=as_json,
        lines=lines,
    )


def _pair(words: str, classes: tuple[str, ...]) -> tuple[int, int]:
    first, colon, second = words.partition(":")
    if not colon:
        raise InvalidInput(f"--pair {words} is no pair", remedy="write SOURCE:TARGET")
    return _class(first, classes), _class(second, classes)


def _class(word: str, classes: tuple[str, ...]) -> int:
    if word in classes:
        return classes.index(word)
    if word.isdecimal() and int(word) < len(classes):
        return int(word)
    raise InvalidInput(f"there is no class {word!r}", why=f"classes are {', '.join(classes)}")


def _require_free(out: Path) -> None:
    occupied = out.is_file() or (
        out.is_dir() and any(out.iterdir()) and not (out / RESULT).is_file()
    )
    if occupied:
        raise InvalidInput(
            f"{out} exists and does not hold distances",
            why="writing would replace it",
            remedy="choose another --out",
        )
