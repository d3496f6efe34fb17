"""``doorward watermark certify``: how far may the weights be moved before the mark may go?"""

from __future__ import annotations

from typing import Annotated

import typer

from doorward.cli.common import Device, Json, Seed, answer
from doorward.cli.keys import PassphraseFile, passphrase
from doorward.cli.options import TrustFactory
from doorward.cli.watermark.group import KeyFile, group

__all__ = ["certify"]


@group.command(
    epilog="Example: doorward watermark certify mark.key mine.model --sigma 0.02 --matches 46"
)
def certify(
    key: KeyFile,
    model: Annotated[str, typer.Argument(help="The marked model, a bundle.")],
    sigma: Annotated[
        float, typer.Option(help="Standard deviation of the noise on every parameter.")
    ],
    matches: Annotated[
        int | None,
        typer.Option(
            help="Matches to certify. Default: those that prove a mark at p <= 2^-64.",
            min=1,
            show_default=False,
        ),
    ] = None,
    samples: Annotated[int, typer.Option(help="Draws of the noise.", min=1)] = 1000,
    confidence: Annotated[float, typer.Option(help="Of the certificate.")] = 0.99,
    trust_factory: TrustFactory = False,
    passphrase_file: PassphraseFile = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Certify a mark against bounded changes of the weights: yes (0) or no (1).

    The certificate is about the model with noise on its weights: however the weights are changed,
    if the change has an L2 norm below the radius, the median of the matches under noise stays.
    """
    from doorward.bundles import open_model
    from doorward.errors import InvalidInput
    from doorward.metrics import binomial_threshold
    from doorward.training.distributed import resolve_device
    from doorward.watermark import WatermarkKey
    from doorward.watermark import certify as certify_mark
    from doorward.watermark.claim import PROVEN

    opened = WatermarkKey.open(key, passphrase(passphrase_file, what=str(key)))
    wanted = matches or binomial_threshold(opened.n, 1 / opened.classes, 2.0**PROVEN)
    if wanted is None or wanted > opened.n:
        raise InvalidInput(
            f"{matches or 'enough'} matches of {opened.n} triggers are not possible",
            remedy=f"choose --matches from 1 to {opened.n}",
        )
    net = open_model(model, trust_factory=trust_factory, device=resolve_device(device))
    certificate = certify_mark(
        net, opened, sigma=sigma, samples=samples, confidence=confidence, seed=seed
    )
    radius = certificate.radius(wanted)
    document = {
        **certificate.to_dict(),
        "certified_matches": wanted,
        "radius": radius,
        "median": certificate.median,
    }
    answer(document, as_json=as_json, lines=certificate.explain(wanted), yes=radius > 0)
