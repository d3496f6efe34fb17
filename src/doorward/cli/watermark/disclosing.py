"""``doorward watermark challenge|disclose|judge``: proofs in public, one lot of triggers each.

The judge draws a challenge, the owner discloses the drawn triggers, and anybody judges; the help of
each command shows an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from doorward.cli.common import Json, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import group
from doorward.cli.watermark.status import Ledger, proofs

__all__ = ["challenge", "disclose", "judge"]

ClaimFile = Annotated[Path, typer.Argument(help="The owner's claim.")]
Public = Annotated[Path, typer.Option(help="The owner's public identity, from a source you trust.")]
Suspect = Annotated[
    str,
    typer.Argument(
        help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
    ),
]
IdentityPassphrase = Annotated[
    Path | None,
    typer.Option(help="The identity's passphrase, if it is not the key's.", show_default=False),
]


@group.command(
    epilog="Example: doorward watermark challenge claim.json suspect.onnx --beacon 8f2a51c0 "
    "--public ada.pub.json --out challenge.json"
)
def challenge(
    claim: ClaimFile,
    suspect: Suspect,
    beacon: Annotated[
        str,
        typer.Option(
            help="A public random value that appeared after claim and suspect were put on record."
        ),
    ],
    public: Public,
    out: Annotated[Path, typer.Option(help="The challenge to write, for the owner.")],
    spent: Annotated[
        list[int] | None,
        typer.Option(help="A lot that an earlier dispute opened; may be repeated.", min=0),
    ] = None,
    earlier: Annotated[
        list[Path] | None,
        typer.Option(help="A published opening of an earlier dispute; may be repeated."),
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Your sealed identity, to sign the challenge.")
    ] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Draw which triggers a dispute opens: by a hash of claim, suspect and beacon.

    Put the suspect on record first (a copy, or its hash), agree on a beacon, and take its next
    value: then nobody could prepare for the draw.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.cli.options import import_from_here
    from doorward.watermark import Claim
    from doorward.watermark.disclosure import Opening, make_challenge, suspect_id

    import_from_here()
    owner = PublicIdentity.load(public)
    opened = Claim.load(claim, owner)
    judge_identity = None
    if identity is not None:
        judge_identity = Identity.open(identity, passphrase(passphrase_file, what=str(identity)))
    lots = set(spent or [])
    for path in earlier or []:
        opening = Opening.load(path)
        opening.reveal(opened, opening.answer.challenge, owner)
        lots.add(opening.answer.challenge.lot)
    name = suspect_id(suspect, trust_factory=trust_factory)
    drawn = make_challenge(opened, name, beacon, spent=lots)
    drawn.save(out, judge_identity)
    document = {
        "challenge": str(out),
        **drawn.to_dict(),
        "number": drawn.number,
        "lot": drawn.lot,
        "lots": drawn.lots,
        "indices": list(drawn.indices),
    }
    answer(
        document,
        as_json=as_json,
        lines=[
            f"{out}  dispute {drawn.number} of at most {drawn.lots} over this claim",
            f"Suspect: {drawn.suspect}",
            f"Lot {drawn.lot}: triggers {drawn.indices[0]} to {drawn.indices[-1]}",
            "Send it to the owner (doorward watermark disclose); ask the suspect before the "
            "answer is published.",
        ],
    )


@group.command(
    epilog="Example: doorward watermark disclose challenge.json --key mark.key --claim claim.json "
    "--identity ada.key --out opening.json"
)
def disclose(
    challenge: Annotated[Path, typer.Argument(help="The judge's challenge.")],
    key: Annotated[Path, typer.Option(help="The sealed watermark key.")],
    claim: Annotated[Path, typer.Option(help="Your claim.")],
    identity: Annotated[Path, typer.Option(help="Your sealed signing identity.")],
    out: Annotated[Path, typer.Option(help="The opening to write, for the judge.")],
    burned: Ledger = None,
    judge: Annotated[
        Path | None, typer.Option(help="The judge's public identity, who must have signed it.")
    ] = None,
    passphrase_file: PassphraseFile = None,
    identity_passphrase_file: IdentityPassphrase = None,
    as_json: Json = False,
) -> None:
    """Answer a challenge: open the drawn triggers, and note that they are known from now on.

    The ledger is written first. The same challenge is always answered in the same way, so that an
    opening that got lost costs no further triggers.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.watermark import Claim, WatermarkKey
    from doorward.watermark.disclosure import BurnLedger, Challenge
    from doorward.watermark.disclosure import disclose as open_lot
    from doorward.watermark.disclosure.burning import beside

    asked = Challenge.load(challenge, None if judge is None else PublicIdentity.load(judge))
    stated = Claim.load(claim)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    signer = Identity.open(
        identity, passphrase(identity_passphrase_file or passphrase_file, what=str(identity))
    )
    ledger = BurnLedger(burned or beside(key), opened)
    if not ledger.path.exists():
        note(f"note: there is no ledger {ledger.path}, so a new one is begun.")
    open_lot(opened, stated, asked, signer, ledger).save(out)
    left = ledger.remaining(stated)
    document = {
        "opening": str(out),
        "ledger": str(ledger.path),
        "lot": asked.lot,
        "indices": list(asked.indices),
        "remaining": left,
    }
    answer(
        document,
        as_json=as_json,
        lines=[
            f"{out}  triggers {asked.indices[0]} to {asked.indices[-1]}, for the judge",
            f"{ledger.path}  they are noted as burned; {proofs(left)}",
        ],
    )


@group.command(
    epilog="Example: doorward watermark judge claim.json challenge.json opening.json suspect.onnx "
    "--public ada.pub.json"
)
def judge(
    claim: ClaimFile,
    challenge: Annotated[Path, typer.Argument(help="Your challenge.")],
    opening: Annotated[Path, typer.Argument(help="The owner's answer.")],
    suspect: Suspect,
    public: Public,
    alpha_bits: Annotated[
        float | None,
        typer.Option(
            help="Your own level for all openings of the claim together, 2^-BITS; of it and the "
            "claim's, the stricter decides.",
            min=1,
            max=1000,
            show_default=False,
        ),
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Write the signed minutes here (needs --verifier).")
    ] = None,
    verifier: Annotated[
        Path | None, typer.Option(help="Your sealed identity, to sign the minutes with.")
    ] = None,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Decide a dispute from the opened triggers: is the suspect marked (0), or not (1)?

    Needs no key. An opening that does not fit claim, challenge or suspect is a no.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.cli.options import import_from_here
    from doorward.errors import IntegrityError, InvalidInput
    from doorward.watermark import Claim
    from doorward.watermark.disclosure import Challenge, Opening
    from doorward.watermark.disclosure.judging import explain_lot
    from doorward.watermark.verifying.openings import examine_opening

    import_from_here()
    if (transcript is None) != (verifier is None):
        raise InvalidInput(
            "--transcript and --verifier belong together",
            why="minutes are worth something only with a signature",
            remedy="give both, or neither",
        )
    signer = None
    if verifier is not None:
        signer = Identity.open(verifier, passphrase(passphrase_file, what=str(verifier)))
    document: dict[str, Any]
    try:
        asked = Challenge.load(challenge)
        found = examine_opening(
            Claim.load(claim),
            asked,
            Opening.load(opening),
            suspect,
            public=PublicIdentity.load(public),
            alpha=None if alpha_bits is None else 2.0**-alpha_bits,
            trust_factory=trust_factory,
        )
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT VERIFIED: the proof is rejected.", yes=False)
        return
    if signer is not None and transcript is not None:
        found.sign(signer).save(transcript)
    verdict, lot = found.verdict, explain_lot(asked)
    document = {**verdict.to_dict(), "drawn": lot, "warnings": list(verdict.warnings)}
    lines = f"{verdict.explain()} {lot}"
    answer(document, as_json=as_json, lines=lines, yes=verdict.verified)
