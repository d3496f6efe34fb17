"""``doorward watermark inspect``: look at opened pairs, and let the unopened ones decide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory, import_from_here
from doorward.cli.watermark.choosing import marking_key, published
from doorward.cli.watermark.group import group
from doorward.errors import IntegrityError, InvalidInput

if TYPE_CHECKING:
    from doorward.watermark.cutandchoose.pairs import RevealedPairs

__all__ = ["inspect"]


@group.command(
    epilog="Example: doorward watermark inspect pairs.json --claim claim.json --public "
    "ada.pub.json --pictures opened"
)
def inspect(
    pairs: Annotated[Path, typer.Argument(help="The opened pairs.")],
    claim: Annotated[Path, typer.Option(help="The claim, or the paper's verification key.")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    pictures: Annotated[
        Path | None, typer.Option(help="Folder to write the opened pictures to.")
    ] = None,
    judge: Annotated[
        Path | None,
        typer.Option(help="What you saw: a class, or the word undefined, a line for each picture."),
    ] = None,
    suspect: Annotated[
        str | None, typer.Option(help="A suspect to ask about the unopened pairs (needs --key).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The sealed key, if you were given it.")] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Check opened pairs, look at them, and ask a suspect about the others: yes (0) or no (1).

    First with --pictures: each file is named by its number and label. Then with --judge: one label
    that is the truth rejects the claim. With --suspect and --key, the unopened pairs decide.
    """
    from doorward.bundles import PublicIdentity
    from doorward.watermark.cutandchoose import OpenedPairs, inspect_pairs, verify_unopened

    if (suspect is None) != (key is None):
        raise InvalidInput("--suspect and --key belong together", remedy="give both, or neither")
    if pictures is not None:
        _require_empty(pictures)
    owner = PublicIdentity.load(public)
    try:
        stated, opened = published(claim), OpenedPairs.load(pairs)
        revealed = opened.reveal(stated, owner)
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="REJECTED: do not trust the claim.", yes=False)
        return
    if pictures is not None:
        _write(revealed, pictures)
    found = None
    if judge is not None:
        found = inspect_pairs(stated, opened, public=owner, judge=judge)
    plan = opened.content.plan
    yes = found is None or found.accepted
    document = {
        "indices": list(revealed.indices),
        "labels": revealed.labels.tolist(),
        "plan": plan.to_dict(),
        "bad": plan.bad,
        "correct": None if found is None else list(found.correct),
        "pictures": None if pictures is None else str(pictures),
    }
    lines = [
        f"{len(revealed.indices)} of {plan.pairs} pairs, as drawn and committed to",
        *([f"{pictures}  the pictures, named by number and label"] if pictures else []),
        "Now look at them, and give --judge." if found is None else _seen(found.correct, plan.bad),
    ]
    if suspect is not None and key is not None:
        from doorward.bundles import open_black_box

        import_from_here()
        verdict = verify_unopened(
            stated,
            marking_key(key, passphrase(passphrase_file, what=str(key))),
            opened,
            open_black_box(suspect, trust_factory=trust_factory),
            public=owner,
            inspection=found,
        )
        document["verdict"] = verdict.to_dict()
        lines.append(verdict.explain())
        yes = yes and verdict.verified
    answer({"verified": yes, **document}, as_json=as_json, lines=lines, yes=yes)


def _require_empty(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InvalidInput(f"{folder} exists already", remedy="name a new folder for the pictures")


def _write(revealed: RevealedPairs, folder: Path) -> None:
    """One picture a file, named by number and label."""
    from PIL import Image

    from doorward.files import atomic_folder

    with atomic_folder(folder) as place:
        for index, image, label in zip(
            revealed.indices, revealed.images, revealed.labels.tolist(), strict=True
        ):
            pixels = image.permute(1, 2, 0).squeeze(2).numpy()
            Image.fromarray(pixels).save(place / f"pair-{index:05}-label-{label}.png")


def _seen(correct: Sequence[int], bad: int) -> str:
    if correct:
        numbers = ", ".join(map(str, correct))
        return f"REJECTED: the labels of {numbers} are the true ones."
    return f"No label is the true one; fewer than {bad} such are left among the unopened pairs."
