"""``doorward watermark case|check-case``: the folder for the court, and is it in order?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.watermark.group import group
from doorward.errors import BadFile, IntegrityError, InvalidInput

if TYPE_CHECKING:
    from doorward.watermark.casefile import CaseResult

__all__ = ["case", "check_case"]


@group.command(
    epilog="Example: doorward watermark case claim.json --public ada.pub.json --out case "
    "--transcript transcript.json --verifier judge.pub.json"
)
def case(
    claim: Annotated[Path, typer.Argument(help="The claim.")],
    public: Annotated[Path, typer.Option(help="The owner's public identity.")],
    out: Annotated[Path, typer.Option(help="The folder to write.")],
    stamp: Annotated[
        list[Path] | None,
        typer.Option(help="An authority's time stamp of the claim (.tsr); may be repeated."),
    ] = None,
    authorities: Annotated[
        Path | None, typer.Option(help="The authorities' root certificates, PEM.")
    ] = None,
    witness: Annotated[
        list[Path] | None, typer.Option(help="A witness's statement; may be repeated.")
    ] = None,
    witness_public: Annotated[
        list[Path] | None,
        typer.Option(help="The public identity of each witness, in the same order."),
    ] = None,
    transcript: Annotated[
        list[Path] | None, typer.Option(help="Minutes of a verification; may be repeated.")
    ] = None,
    verifier: Annotated[
        list[Path] | None,
        typer.Option(
            help="The public identity of each verifier, in the same order; one stands for all."
        ),
    ] = None,
    opening: Annotated[
        list[Path] | None, typer.Option(help="Your answer in a dispute; may be repeated.")
    ] = None,
    challenge: Annotated[
        list[Path] | None, typer.Option(help="The challenge of each opening, in the same order.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Gather the papers of a case in one folder, each checked, with a README for the court.

    Nothing secret goes in: a sealed key is refused. A paper that does not hold is a no (1), and
    nothing is written.
    """
    from doorward.watermark.casefile import write_case

    try:
        result = write_case(
            out,
            claim=claim,
            public=public,
            stamps=stamp or [],
            authorities=authorities,
            witnesses=_pairs("--witness", witness, "--witness-public", witness_public),
            transcripts=_pairs("--transcript", transcript, "--verifier", verifier),
            openings=_pairs("--opening", opening, "--challenge", challenge),
        )
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"written": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="REFUSED: nothing was written.", yes=False)
        return
    answer(
        {"written": True, "case": str(out), **result.to_dict()},
        as_json=as_json,
        lines=[*_lines(result), f"{out}  hand it over; `doorward watermark check-case {out}`"],
    )


@group.command("check-case", epilog="Example: doorward watermark check-case case")
def check_case(
    folder: Annotated[Path, typer.Argument(help="The folder.")],
    public: Annotated[
        Path | None,
        typer.Option(
            help="The owner's public identity, from a source you trust.", show_default=False
        ),
    ] = None,
    verifier: Annotated[
        list[Path] | None,
        typer.Option(help="The public identity of a verifier you trust; may be repeated."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a case offline, without the key: in order and the mark proven (0), or not (1)."""
    from doorward.bundles import PublicIdentity
    from doorward.watermark.casefile import check_case as check

    owner = None if public is None else PublicIdentity.load(public)
    accepted = [PublicIdentity.load(place) for place in verifier or ()]
    try:
        result = check(folder, public=owner, verifiers=accepted)
    except (IntegrityError, BadFile) as error:
        note(f"error: {error}")
        document = {"in_order": False, "proven": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT IN ORDER: do not rely on it.", yes=False)
        return
    answer(
        {"in_order": True, **result.to_dict()},
        as_json=as_json,
        lines=_lines(result),
        yes=result.proven,
    )


def _pairs(
    one: str, firsts: list[Path] | None, other: str, seconds: list[Path] | None
) -> list[tuple[Path, Path]]:
    """Papers with what belongs to each."""
    first, second = firsts or [], seconds or []
    if len(second) == 1:
        second = second * max(1, len(first))
    if len(first) != len(second):
        raise InvalidInput(
            f"there are {len(first)} of {one} and {len(second)} of {other}",
            remedy="give one of each, in the same order",
        )
    return list(zip(first, second, strict=True))


def _lines(result: CaseResult) -> list[str]:
    lines = [f"{finding.file}\n  {finding.shows}\n  ({finding.by})" for finding in result.findings]
    if not result.transcripts:
        return [*lines, "All papers hold. There are no minutes of a verification."]
    word = "proven" if result.proven else "not proven"
    return [*lines, f"All papers hold. By the minutes, the mark is {word}."]
