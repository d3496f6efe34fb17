"""``doorward watermark cut-and-choose``: how sure the public can be of labels it has not seen."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, answer, table
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.watermark.group import group
from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from doorward.watermark import WatermarkKey
    from doorward.watermark.adi import PaperKey
    from doorward.watermark.cutandchoose import CutAndChoose
    from doorward.watermark.cutandchoose.pairs import Committed

__all__ = ["cut_and_choose", "marking_key", "published"]

_SHOWN = (5, 10, 20, 30, 40, 60)
_USUAL_PAIRS, _USUAL_CLASSES = 400, 10


@group.command(
    epilog="Example: doorward watermark cut-and-choose --pairs 400 --opened 200 --classes 10"
)
def cut_and_choose(
    pairs: Annotated[
        int | None,
        typer.Option(help="Pairs committed to. Default: the claim's, or 400.", min=2),
    ] = None,
    opened: Annotated[
        int | None, typer.Option(help="Pairs opened and inspected. Default: half.", min=1)
    ] = None,
    classes: Annotated[
        int | None, typer.Option(help="Number of classes. Default: the claim's, or 10.", min=2)
    ] = None,
    alpha: Annotated[float, typer.Option(help="The p-value asked for.", min=0, max=1)] = 1e-9,
    cheating_bits: Annotated[
        float | None,
        typer.Option(
            help="Chance to cheat, as 2^-BITS. Default: 80, as keys can be tried until their hash "
            "draws kindly; 30 with --beacon.",
            min=20,
            show_default=False,
        ),
    ] = None,
    beacon: Annotated[
        str | None,
        typer.Option(help="Public random value from after the claim, to draw with."),
    ] = None,
    claim: Annotated[
        Path | None, typer.Option(help="Open pairs of this claim (or paper's verification key).")
    ] = None,
    key: Annotated[Path | None, typer.Option(help="The sealed key, to open pairs.")] = None,
    identity: Annotated[Path | None, typer.Option(help="Your identity, to sign them.")] = None,
    out: Annotated[Path | None, typer.Option(help="The opened pairs to write.")] = None,
    passphrase_file: PassphraseFile = None,
    identity_passphrase_file: Annotated[
        Path | None,
        typer.Option(help="The identity's passphrase, if it is not the key's.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how sound a cut-and-choose is; with --claim, --key, --identity, --out, do it.

    N pairs are committed to, k drawn and opened; who hides pairs with true labels among the rest is
    caught but for a small chance. Exit code 1 if no number of matches could then prove a mark.
    """
    from doorward.watermark.cutandchoose import BY_BEACON, BY_HASH, CutAndChoose

    if not 0 < alpha < 1:
        raise InvalidInput(f"--alpha is {alpha}", why="a level lies between 0 and 1")
    if claim is not None:
        known = published(claim).statement.key
        pairs, classes = pairs or known.n, classes or known.classes
    total, kinds = pairs or _USUAL_PAIRS, classes or _USUAL_CLASSES
    usual = BY_HASH if beacon is None else BY_BEACON
    plan = CutAndChoose.from_dict(
        {
            "pairs": total,
            "opened": opened or total // 2,
            "log2_cheating": usual if cheating_bits is None else -cheating_bits,
        }
    )
    document = _numbers(plan, kinds, alpha)
    lines = _explained(plan, document["needed"], alpha, beacon)
    files = {"--claim": claim, "--key": key, "--identity": identity, "--out": out}
    if claim is not None and key is not None and identity is not None and out is not None:
        phrase = passphrase(passphrase_file, what=str(key))
        own = passphrase(identity_passphrase_file or passphrase_file, what=str(identity))
        drawn = _open(plan, (claim, key, identity, out), (phrase, own), beacon)
        document |= {"pairs_file": str(out), "drawn": drawn}
        lines.append(f"{out}  the opened pairs, to be published beside the claim")
    elif key is not None or identity is not None or out is not None:
        missing = ", ".join(name for name, value in files.items() if value is None)
        raise InvalidInput(f"{missing} is missing", why="all four are needed to open pairs")
    answer(document, as_json=as_json, lines=lines, yes=document["needed"] is not None)


def published(path: Path) -> Committed:
    """A claim, or a verification key of the paper's scheme."""
    from doorward.files import read_json
    from doorward.watermark import Claim
    from doorward.watermark.adi import VerificationKey
    from doorward.watermark.adi.vk import PURPOSE

    content = read_json(path)
    paper = isinstance(content, dict) and content.get("purpose") == PURPOSE
    return VerificationKey.load(path) if paper else Claim.load(path)


def marking_key(path: Path, phrase: str) -> WatermarkKey | PaperKey:
    """A sealed key of either kind."""
    from doorward.files import read_json
    from doorward.watermark import WatermarkKey
    from doorward.watermark.adi import PaperKey

    content = read_json(path)
    keyed = isinstance(content, dict) and content.get("purpose") == "watermark-key"
    return WatermarkKey.open(path, phrase) if keyed else PaperKey.open(path, phrase)


def _numbers(plan: CutAndChoose, classes: int, alpha: float) -> dict[str, Any]:
    chances = {bad: plan.soundness(bad) for bad in _SHOWN if bad <= plan.pairs}
    return {
        **plan.to_dict(),
        "classes": classes,
        "alpha": alpha,
        "log2_soundness": {str(b): x if math.isfinite(x) else None for b, x in chances.items()},
        "bad": plan.bad,
        "unopened": plan.rest,
        "needed": plan.needed(classes, math.log2(alpha)),
    }


def _explained(
    plan: CutAndChoose, needed: int | None, alpha: float, beacon: str | None
) -> list[str]:
    chances = {bad: plan.soundness(bad) for bad in _SHOWN if bad <= plan.pairs}
    rows = [
        [str(bad), f"2^{x:.1f}" if math.isfinite(x) else "impossible"] for bad, x in chances.items()
    ]
    proof = (
        "No number of matches would prove a mark: take more pairs, or draw by a beacon."
        if needed is None
        else f"So a mark is proven by {needed} matches of the {plan.rest} unopened pairs: "
        f"{plan.bad} are granted, and the rest has p <= {alpha:g}."
    )
    return [
        f"{plan.opened} of {plan.pairs} pairs are opened, drawn by "
        + ("a beacon." if beacon else "a hash of the commitment."),
        table(["pairs with the true label", "chance that none of them is opened"], rows),
        f"Fewer than {plan.bad} are left unopened, but for a chance of 2^{plan.log2_cheating:g}.",
        proof,
    ]


def _open(
    plan: CutAndChoose,
    files: tuple[Path, Path, Path, Path],
    phrases: tuple[str, str],
    beacon: str | None,
) -> list[int]:
    from doorward.bundles import Identity
    from doorward.watermark.cutandchoose import open_pairs

    claim, key, identity, out = files
    signer = Identity.open(identity, phrases[1])
    opened = open_pairs(marking_key(key, phrases[0]), published(claim), signer, plan, beacon=beacon)
    opened.save(out)
    return list(opened.content.drawn)
