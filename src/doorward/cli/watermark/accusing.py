"""``doorward watermark false-claims``: try to claim innocent models, in every known way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Json, Root, Seed, answer, table
from doorward.cli.options import Channels, Size, TrustFactory
from doorward.cli.watermark.group import group

if TYPE_CHECKING:
    from doorward.watermark.disputes import Calibration, FalseClaim

__all__ = ["false_claims"]


@group.command(
    "false-claims",
    epilog="Example: doorward watermark false-claims innocent.model --data cifar10 --surrogate "
    "accusers.model",
)
def false_claims(
    suspects: Annotated[list[str], typer.Argument(help="Models that no accuser has a part in.")],
    data: Annotated[str, typer.Option(help="Natural pictures that the accuser has (test split).")],
    surrogate: Annotated[
        list[str] | None,
        typer.Option(help="A bundle that the accuser trained; may be repeated. Some need one."),
    ] = None,
    keys: Annotated[int, typer.Option(help="Keys to draw on each model.", min=1)] = 1000,
    n: Annotated[int, typer.Option("--n", help="Triggers of each claim.", min=1)] = 100,
    alpha_bits: Annotated[
        float, typer.Option(help="A claim is proven at p <= 2^-BITS.", min=20, max=1000)
    ] = 64,
    size: Size = None,
    channels: Channels = None,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Write an HTML report, with the p-values of random keys against the uniform law.",
            show_default=False,
        ),
    ] = None,
    root: Root = None,
    trust_factory: TrustFactory = False,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Try to claim models that are somebody else's: exit code 0 if no claim by key succeeds.

    Attacks on the paper's free choice of pictures are shown beside attacks on keys; random keys
    on each model are compared with the exact law.
    """
    from doorward.bundles import open_black_box, open_model
    from doorward.cli.options import require_writable
    from doorward.data import load
    from doorward.watermark.disputes import (
        FALSE_CLAIMS,
        Scene,
        calibrate,
        matches_of_random_keys,
        try_false_claims,
    )

    if report is not None:
        require_writable(report, file=True)
    boxes = {name: open_black_box(name, trust_factory=trust_factory) for name in suspects}
    scene = Scene(
        suspects=boxes,
        images=load(data, split="test", root=root, size=size, channels=channels),
        surrogates=[open_model(name, trust_factory=trust_factory) for name in surrogate or ()],
        n=n,
        keys=keys,
        log2_alpha=-alpha_bits,
        seed=seed,
    )
    led = {name for name in FALSE_CLAIMS if FALSE_CLAIMS.facts(name).get("surrogates")}
    names = [name for name in FALSE_CLAIMS if scene.surrogates or name not in led]
    claims = try_false_claims(scene, names)
    found = matches_of_random_keys(boxes, scene.parameters, keys, seed=seed)
    laws = [
        calibrate(matches, n=n, classes=scene.classes, suspect=name, seed=seed)
        for name, matches in found.items()
    ]
    sound = not any(claim.succeeded for claim in claims if claim.scheme == "keyed")
    document: dict[str, Any] = {
        "sound": sound,
        "claims": [claim.to_dict() for claim in claims],
        "random_keys": [{**law.to_dict(), "points": law.tail_points()} for law in laws],
    }
    if report is not None:
        from doorward.reporting import Report
        from doorward.reporting.false_claims import false_claims_section

        page = Report("False claims", ", ".join(suspects))
        page.add(false_claims_section(document["claims"], document["random_keys"])).write(report)
    answer(
        document,
        as_json=as_json,
        lines=[_claims_table(claims), *(_law(law, -alpha_bits) for law in laws)],
        yes=sound,
    )


def _law(law: Calibration, log2_alpha: float) -> str:
    return (
        f"{law.suspect}: {law.keys} random keys, smallest p-value 2^{law.smallest_log2_p:.1f}, "
        f"{law.at_or_below(log2_alpha)} false claims. Against the exact law: p = {law.ks_p:.2g} "
        f"(Kolmogorov-Smirnov), {law.chi_square_p:.2g} (chi-square)."
    )


def _claims_table(claims: Sequence[FalseClaim]) -> str:
    rows = []
    for claim in claims:
        rate = "not admitted" if claim.match_rate is None else f"{claim.match_rate:.0%}"
        score = f"{claim.succeeded} of {len(claim.trials)}"
        rows.append([claim.scheme, claim.attack, rate, score, claim.reason])
    return table(["scheme", "attack", "matches", "convicted", "why"], rows)
