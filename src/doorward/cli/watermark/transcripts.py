"""``doorward watermark check-transcript``: somebody else's verification, checked offline."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, Root, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import group
from doorward.cli.watermark.verifying import load_covers
from doorward.errors import BadFile, IntegrityError, InvalidInput

__all__ = ["check_transcript"]


@group.command(
    epilog="Example: doorward watermark check-transcript transcript.json claim.json --public "
    "ada.pub.json --verifier judge.pub.json --key mark.key --against suspect.onnx"
)
def check_transcript(
    transcript: Annotated[Path, typer.Argument(help="The minutes of a verification.")],
    claim: Annotated[Path, typer.Argument(help="The owner's claim.")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    verifier: Annotated[
        Path, typer.Option(help="The verifier's public identity, from a source you trust.")
    ],
    key: Annotated[
        Path | None, typer.Option(help="The sealed key, if you have it: count all triggers again.")
    ] = None,
    opening: Annotated[
        Path | None, typer.Option(help="The owner's opening of some triggers: count these again.")
    ] = None,
    covers: Annotated[
        str | None, typer.Option(help="The cover images, if you have them (a data set or folder).")
    ] = None,
    against: Annotated[
        str | None, typer.Option(help="The suspect itself, to be asked again.")
    ] = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Check the minutes of a verification: genuine and proven (0), or not (1).

    Nobody is asked anything, unless you give --against. What was checked, and what remains the
    verifier's word, is listed.
    """
    from doorward.bundles import PublicIdentity
    from doorward.cli.options import import_from_here
    from doorward.watermark import Claim, WatermarkKey
    from doorward.watermark.verifying import Transcript, explain
    from doorward.watermark.verifying import check_transcript as check

    import_from_here()
    if covers is not None and key is None:
        raise InvalidInput(
            "--covers needs --key",
            why="which questions were covers is known only with all triggers",
            remedy="give the key, or leave out --covers",
        )
    owner, signer = PublicIdentity.load(public), PublicIdentity.load(verifier)
    opened_key = None
    if key is not None:
        opened_key = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    images = None if opened_key is None else load_covers(covers, opened_key, root)
    try:
        minutes, stated = Transcript.load(transcript), Claim.load(claim)
        triggers = None if opening is None else _triggers(opening, stated, owner)
        verdict = check(
            minutes,
            stated,
            public=owner,
            verifier=signer,
            key=opened_key,
            opened=triggers,
            covers=images,
            against=against,
            trust_factory=trust_factory,
        )
    except (IntegrityError, BadFile) as error:
        note(f"error: {error}")
        document = {"genuine": False, "verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT GENUINE: do not rely on it.", yes=False)
        return
    record = minutes.record
    grounds = explain(
        key=key is not None,
        opened=0 if triggers is None else len(triggers),
        covers=record.covers is not None and images is None,
        against=against is not None,
        concealed=record.seed is None,
    )
    facts = {
        "genuine": True,
        "verifier": minutes.verifier.name,
        "suspect_name": record.suspect,
        "earlier": None if record.earlier is None else record.earlier.to_dict(),
        "checked": list(grounds.checked),
        "believed": list(grounds.believed),
    }
    answer(
        verdict.to_dict() | facts,
        as_json=as_json,
        lines=[
            verdict.explain(),
            f"Verifier: {signer.name} ({signer.fingerprint[:16]}). Suspect: {record.suspect}.",
            _earlier(record.earlier),
            "Checked here:",
            *(f"  + {line}" for line in grounds.checked),
            "Not checked here:",
            *(f"  - {line}" for line in grounds.believed),
        ],
        yes=verdict.verified,
    )


def _triggers(path: Path, claim: Any, owner: Any) -> Any:
    """The triggers of an opening that the owner signed."""
    from doorward.watermark.disclosure import Opening

    opening = Opening.load(path)
    opening.reveal(claim, opening.answer.challenge, owner)
    return opening.answer.triggers


def _earlier(earlier: Any) -> str:
    if earlier is None:
        return "The verifier keeps no list of earlier verifications, or shows none."
    return (
        f"Earlier verifications by the verifier's own list: {earlier.same} of the same claim and "
        f"suspect, {earlier.same_claim} of the claim, {earlier.same_suspect} of the suspect."
    )
