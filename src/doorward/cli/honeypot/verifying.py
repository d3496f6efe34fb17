"""``doorward honeypot verify``: was a suspect trained on leaning answers?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doorward.cli.common import Data, Json, Root, answer, note
from doorward.cli.honeypot.group import group
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory

__all__ = ["verify"]


@group.command(
    epilog="Example: doorward honeypot verify claim.json suspect.onnx --key lean.key --public "
    "ada.pub.json --data cifar10 --control own.model"
)
def verify(
    claim: Annotated[Path, typer.Argument(help="The owner's claim.")],
    suspect: Annotated[
        str,
        typer.Argument(
            help="A bundle, an .onnx file, an http(s):// endpoint, or package.module:function."
        ),
    ],
    key: Annotated[Path, typer.Option(help="The sealed key of the lean.")],
    public: Annotated[
        Path, typer.Option(help="The owner's public identity, from a source you trust.")
    ],
    data: Data,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="A model that never saw the answers, which the suspect must exceed; repeat it.",
            show_default=False,
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            help="Your own level; of it and the claim's, the stricter decides.",
            min=0,
            max=1,
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
    """Decide whether a suspect was trained on the answers that lean by a key: yes (0) or no (1).

    Only the suspect's labels are used, on test images of --data. A claim that was tampered with,
    or that somebody else signed, is a no.
    """
    from doorward.bundles import Identity, PublicIdentity
    from doorward.cli.options import import_from_here
    from doorward.data import load
    from doorward.errors import IntegrityError, InvalidInput
    from doorward.honeypot import LeanClaim, LeanKey, Transcript, examine

    if (transcript is None) != (verifier is None):
        raise InvalidInput(
            "--transcript and --verifier belong together",
            why="minutes are worth something only with a signature",
            remedy="give both, or neither",
        )
    import_from_here()
    owner = PublicIdentity.load(public)
    opened = LeanKey.open(key, passphrase(passphrase_file, what=str(key)))
    signer = None
    if verifier is not None:
        phrase = passphrase(verifier_passphrase_file or passphrase_file, what=str(verifier))
        signer = Identity.open(verifier, phrase)
    try:
        known = LeanClaim.load(claim, owner)
    except IntegrityError as error:
        note(f"error: {error}")
        document = {"verified": False, "reason": str(error)}
        answer(document, as_json=as_json, lines="NOT VERIFIED: the claim is rejected.", yes=False)
        return
    channels, height, _ = known.statement.menu.image_shape
    images = load(data, split="test", root=root, size=height, channels=channels)
    found = examine(
        known,
        opened,
        suspect,
        images,
        control or (),
        public=owner,
        alpha=alpha,
        trust_factory=trust_factory,
    )
    if signer is not None and transcript is not None and found.told is not None:
        Transcript.sign(found, signer).save(transcript)
    verdict = found.verdict
    answer(
        {**verdict.to_dict(), "p_value": verdict.p_value},
        as_json=as_json,
        lines=verdict.explain(),
        yes=verdict.verified,
    )
