"""``doorward watermark verify``: do suspect models carry the mark of a claim?"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, Root, answer, note
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import group
from doorward.cli.watermark.several import answer_for_all
from doorward.errors import IntegrityError, InvalidInput

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.watermark import WatermarkKey
    from doorward.watermark.verifying import Examination, QueryPlan

__all__ = ["LOOK_ALIKES", "load_covers", "verify"]

LOOK_ALIKES = "look-alikes"


class Correction(StrEnum):
    """How p-values of several suspects are corrected."""

    HOLM = "holm"
    BONFERRONI = "bonferroni"


@group.command(
    epilog="Example: doorward watermark verify claim.json suspect.onnx --key mark.key --public "
    "ada.pub.json --covers cifar10 --transcript transcript.json --verifier judge.key"
)
def verify(
    claim: Annotated[Path, typer.Argument(help="The owner's claim.")],
    suspects: Annotated[
        list[str],
        typer.Argument(
            metavar="SUSPECT...",
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function. Of "
            "several, all are judged together.",
        ),
    ],
    key: Annotated[Path, typer.Option(help="The sealed watermark key.")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    alpha_bits: Annotated[
        float | None,
        typer.Option(
            help="Your own level, 2^-BITS; of it and the claim's, the stricter decides.",
            min=1,
            max=1000,
            show_default=False,
        ),
    ] = None,
    correction: Annotated[
        Correction, typer.Option(help="For several tests: holm or bonferroni.")
    ] = Correction.HOLM,
    tests: Annotated[
        int | None,
        typer.Option(
            help="How many tests there were in all, if more than these suspects: other claims on "
            "them, or other suspects, tried elsewhere. All count.",
            min=1,
            show_default=False,
        ),
    ] = None,
    covers: Annotated[
        str | None,
        typer.Option(
            help="Hide the triggers among other questions: images of the suspect's task (a data "
            "set or folder; better), or look-alikes.",
            show_default=False,
        ),
    ] = None,
    cover_share: Annotated[
        float, typer.Option(help="Share of covers in what is asked.", min=0.0, max=0.95)
    ] = 0.5,
    per_second: Annotated[
        float | None, typer.Option(help="Images per second at most.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images per request.", min=1, max=4096)] = 64,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds for an endpoint's answer. Default: 10.", show_default=False),
    ] = None,
    retries: Annotated[
        int | None,
        typer.Option(
            help="Further attempts at an endpoint. Default: 5.", min=0, show_default=False
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Keep answers here, and go on from them. Keep the file to yourself."),
    ] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="Write the signed minutes here (needs --verifier).")
    ] = None,
    verifier: Annotated[
        Path | None, typer.Option(help="Your sealed identity, to sign the minutes with.")
    ] = None,
    conceal: Annotated[
        bool, typer.Option("--conceal", help="Minutes that hide which questions were triggers.")
    ] = False,
    history: Annotated[
        Path | None, typer.Option(help="Your list of verifications; the minutes say how many.")
    ] = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    passphrase_file: PassphraseFile = None,
    verifier_passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="Your identity's passphrase, if it is not the key's.", show_default=False
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Decide whether suspect models carry the claim's mark: yes (0) or no (1).

    Only the suspects' labels are used. A claim that was tampered with, or that somebody else
    signed, is a no. With several suspects, each p-value is corrected for their number, and the
    answer is yes if any of them is proven; --resume and --transcript then write one file each.
    Who tries several claims on a suspect has to pay for that, too: --tests says how many.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.cli.options import import_from_here
    from doorward.watermark import WatermarkKey
    from doorward.watermark.verifying import History, correct, examine

    import_from_here()
    if (transcript is None) != (verifier is None):
        raise InvalidInput(
            "--transcript and --verifier belong together",
            why="minutes are worth something only with a signature",
            remedy="give both, or neither",
        )
    if tests is not None and tests < len(suspects):
        raise InvalidInput(
            f"--tests is {tests}, and there are {len(suspects)} suspects",
            remedy="count these, too, or leave it out",
        )
    owner = PublicIdentity.load(public)
    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    signer = None
    if verifier is not None:
        phrase = passphrase(verifier_passphrase_file or passphrase_file, what=str(verifier))
        signer = Identity.open(verifier, phrase)
    plan, images = _plan(covers, cover_share, per_second, batch_size, opened, root)
    found: list[Examination] = []
    try:
        for number, suspect in enumerate(suspects):
            examined = examine(
                claim,
                opened,
                _endpoint(suspect, timeout, retries),
                public=owner,
                alpha=None if alpha_bits is None else 2.0**-alpha_bits,
                plan=plan,
                covers=images,
                resume=_place(resume, number, len(suspects)),
                history=None if history is None else History(history),
                trust_factory=trust_factory,
            )
            place = _place(transcript, number, len(suspects))
            if signer is not None and place is not None and examined.notes is not None:
                examined.sign(signer, concealed=conceal).save(place)
            found.append(examined)
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT VERIFIED: the claim is rejected.", yes=False)
        return
    if len(suspects) == 1 and tests in (None, 1):
        verdict = found[0].verdict
        answer(
            verdict.to_dict() | {"warnings": list(verdict.warnings)},
            as_json=as_json,
            lines=verdict.explain(),
            yes=verdict.verified,
        )
        return
    verdicts = [examined.verdict for examined in found]
    corrected = correct(verdicts, method=correction.value, tests=tests)
    answer_for_all(suspects, found, corrected, as_json=as_json)


def load_covers(name: str | None, key: WatermarkKey, root: Path | None) -> ImageData | None:
    """Cover images of the key's shape; None for look-alikes."""
    if name is None or name == LOOK_ALIKES:
        return None
    from doorward.data import load

    channels, height, width = key.image_shape
    return load(name, root=root, size=height if height == width else None, channels=channels)


def _plan(
    covers: str | None,
    share: float,
    per_second: float | None,
    batch_size: int,
    key: WatermarkKey,
    root: Path | None,
) -> tuple[QueryPlan, ImageData | None]:
    from doorward.watermark.verifying import GUARDED, QueryPlan

    plan = QueryPlan() if covers is None else GUARDED
    changes = {"batch_size": batch_size, "per_second": per_second}
    if covers is not None:
        changes["cover_share"] = share
    return QueryPlan.from_dict(plan.to_dict() | changes), load_covers(covers, key, root)


def _endpoint(suspect: str, timeout: float | None, retries: int | None) -> Any:
    """The suspect, opened here if it is an endpoint that is to be called differently."""
    given = {"timeout": timeout, "retries": retries}
    options: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if not options or not suspect.lower().startswith(("http://", "https://")):
        return suspect
    from doorward.models import HttpBox

    return HttpBox(suspect, **options)


def _place(path: Path | None, number: int, count: int) -> Path | None:
    """The file itself, or one for each of several suspects: ``name-1.json``, ``name-2.json``."""
    if path is None or count == 1:
        return path
    return path.with_name(f"{path.stem}-{number + 1}{path.suffix}")
