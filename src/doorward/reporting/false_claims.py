"""The section about false claims: who was convicted, and random keys against the exact law.

report.add(false_claims_section(document["claims"], document["random_keys"]))
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from doorward.reporting.blocks import Block, Note, Table, Text, Verdict
from doorward.reporting.numerals import percent, power_of_two
from doorward.reporting.plots import Curve
from doorward.reporting.report import Section

__all__ = ["false_claims_section"]

_LOG10_2 = math.log10(2)


def false_claims_section(
    claims: Sequence[Mapping[str, Any]], laws: Sequence[Mapping[str, Any]]
) -> Section:
    """What became of false claims on models that no claimant had a part in.

    Args:
        claims: of `doorward.watermark.disputes.FalseClaim`, as dicts.
        laws: of `Calibration`, as dicts, each with ``points``: its `tail_points`. None will do.
    """
    keyed = [claim for claim in claims if claim["scheme"] == "keyed"]
    convicted = [claim["attack"] for claim in keyed if _convicted(claim)]
    blocks: list[Block] = [
        Text(
            "Somebody claims models that are not theirs, in every way we know. Where claimants "
            "choose pictures and labels freely, some of them succeed; with keys they cannot "
            "choose, and chance alone is left."
        ),
        Verdict(
            "Does any claim by key convict an innocent model?",
            bool(convicted),
            good=not convicted,
            detail=f"these do: {', '.join(convicted)}"
            if convicted
            else f"{len(keyed)} attacks on keys were tried",
        ),
        Table(
            ["Scheme", "Attack", "Triggers that match", "Models convicted"],
            [
                [
                    claim["scheme"],
                    claim["attack"],
                    _rate(claim),
                    f"{_convicted(claim)} of {len(claim['trials'])}",
                ]
                for claim in claims
            ],
            "False claims",
        ),
    ]
    if laws:
        blocks += [_curve(laws), _law_table(laws), _READ]
    return Section("Can somebody claim a model that is not theirs?", tuple(blocks))


_READ = Note(
    "A p-value is right if random keys fall below it as often as it says: then the lines lie on "
    "the line of the uniform law. Points far to the right are single keys. The tests' p-values "
    "are small where an observed distribution departs from the exact one."
)


def _convicted(claim: Mapping[str, Any]) -> int:
    return sum(bool(trial["convinced"]) for trial in claim["trials"])


def _rate(claim: Mapping[str, Any]) -> str:
    """Triggers that match, averaged over the models that were asked."""
    asked = [trial["matches"] for trial in claim["trials"] if trial["matches"] is not None]
    return percent(sum(asked) / len(asked) / claim["n"]) if asked else "not admitted"


def _curve(laws: Sequence[Mapping[str, Any]]) -> Curve:
    """The share of keys at or below each p-value, on logarithmic axes, against the diagonal."""
    series: dict[str, tuple[list[float], list[float | None]]] = {}
    furthest = 0.0
    for law in laws:
        points = sorted(law["points"], key=lambda point: -point["log2_p"])
        places = [-_LOG10_2 * point["log2_p"] for point in points]
        series[str(law["suspect"])] = (places, [-math.log10(point["share"]) for point in points])
        furthest = max(furthest, *places)
    series["uniform"] = ([0.0, furthest], [0.0, furthest])
    return Curve(
        series,
        x="-log10 of the p-value",
        y="-log10 of the share of keys at or below it",
        caption="p-values of random keys against the uniform law",
    )


def _law_table(laws: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        ["Model", "Random keys", "Smallest p-value", "Kolmogorov-Smirnov p", "Chi-square p"],
        [
            [
                law["suspect"],
                law["keys"],
                power_of_two(law["smallest_log2_p"]),
                f"{law['ks_p']:.2g}",
                f"{law['chi_square_p']:.2g}",
            ]
            for law in laws
        ],
        "Random keys on each model",
    )
