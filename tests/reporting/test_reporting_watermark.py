"""The section about attacks on a mark: what it calls proven, what it draws, what it warns of."""

from __future__ import annotations

from typing import Any

import pytest

from doorward.errors import InvalidInput
from doorward.reporting import Note, Report, Table, Verdict
from doorward.reporting.false_claims import false_claims_section
from doorward.reporting.plots import Curve, Dots
from doorward.reporting.watermark import attack_section
from doorward.reporting.watermark_seeds import seeds_section


def row(label: str, log2_p: float, **changes: Any) -> dict[str, Any]:
    """A row of an attack table, of a method that costs one point."""
    attack = {"method": "quantisation", "parameters": {}, "share": 1.0, "label": label}
    attack |= changes.pop("attack", {})
    return {
        "attack": attack, "accuracy": 0.9, "cost": 1.0, "matches": 15, "n": 20,
        "p_value": 2.0**log2_p, "log2_p": log2_p, "interval": [0.5, 0.9], "blended_log2_p": None,
        "old_head": False, "seconds": 1.25, "facts": {}, **changes,
    }  # fmt: skip


def untouched(log2_p: float = -60.0) -> dict[str, Any]:
    return row("no attack", log2_p, attack={"method": "none"}, cost=0.0)


def tuned(label: str, lr: float, matches: int, **parameters: Any) -> dict[str, Any]:
    numbers = {"lr": lr, "layers": "all", "reinit_head": False, **parameters}
    attack = {"method": "fine-tuning", "parameters": numbers}
    return row(label, -50.0, attack=attack, matches=matches)


def blocks(kind: type, *rows: dict[str, Any], **options: Any) -> list[Any]:
    section = attack_section({"rows": list(rows)}, **options)
    return [block for block in section.blocks if isinstance(block, kind)]


@pytest.mark.parametrize(
    ("rows", "survives"),
    [
        ([row("cheap", -30.0)], True),  # at the level itself
        ([row("cheap", -29.9)], False),
        ([row("dear", -1.0, cost=2.1)], True),
        ([row("just affordable", -1.0, cost=2.0)], False),
        ([row("a gain", -1.0, cost=-0.5)], False),
        ([row("other task", -1.0, accuracy=None, cost=None)], False),
        ([row("one", -40.0), row("two", -3.0)], False),
    ],
)
def test_the_verdict_is_about_every_attack_that_is_cheap(
    rows: list[dict[str, Any]], survives: bool
) -> None:
    (verdict,) = blocks(Verdict, untouched(), *rows)
    assert verdict.answer is survives
    assert (rows[-1]["attack"]["label"] in verdict.detail) is not survives


def test_a_mark_that_was_never_there_outlives_nothing() -> None:
    (verdict,) = blocks(Verdict, untouched(-3.0), row("dear", -1.0, cost=50.0))
    assert not verdict.answer
    assert "no attack" in verdict.detail


def test_level_and_cost_are_the_callers() -> None:
    rows = [untouched(), row("attack", -22.0, cost=4.0)]
    for log2_alpha, most_cost, survives in ((-30, 2, True), (-30, 5, False), (-20, 5, True)):
        (verdict,) = blocks(Verdict, *rows, log2_alpha=log2_alpha, most_cost=most_cost)
        assert verdict.answer is survives
        assert f"{most_cost} points" in verdict.question


def test_of_two_ways_to_ask_the_stronger_counts_doubled() -> None:
    both = [
        row("through", -3.0, blended_log2_p=-31.0),  # -30 once doubled: proven
        row("alone", -30.5, blended_log2_p=-2.0),  # -29.5: not
        row("neither", -0.5, blended_log2_p=-0.25),  # 2 * 2^-0.5 > 1, so 1
        row("single", -30.5),
    ]
    (table,) = blocks(Table, *both)
    at = {name: table.columns.index(name) for name in ("Attack", "p-value", "Proven")}
    assert [line[at["Proven"]] for line in table.rows] == [True, False, False, True]
    assert table.rows[2][at["p-value"]] == "1.00"
    (verdict,) = blocks(Verdict, *both)
    assert verdict.detail == "not after: alone, neither"


def test_a_model_for_another_task_has_no_accuracy_and_the_old_head_is_explained() -> None:
    (table,) = blocks(Table, untouched(), row("moved", -40.0, accuracy=None, cost=None))
    assert table.rows[1][1:4] == ["another task", "", "15 of 20"]
    assert blocks(Note, untouched(), row("plain", -40.0)) == []
    (note,) = blocks(Note, untouched(), row("new head", -40.0, old_head=True))
    assert "weights" in note.text


def test_the_curve_needs_three_rates_of_plain_fine_tuning() -> None:
    one = tuned("FTAL 0.01", 0.01, 10)
    assert blocks(Curve, untouched(), one) == []
    assert blocks(Curve, untouched(), one, tuned("RTLL", 0.1, 5, layers="last")) == []
    assert blocks(Curve, untouched(), one, tuned("REFIT", 0.1, 5, schedule="onecycle")) == []
    part = tuned("FTAL 0.1, 10%", 0.1, 5)
    part["attack"]["share"] = 0.1
    assert blocks(Curve, untouched(), one, part) == []
    two = tuned("FTAL 0.001", 0.001, 20)
    assert blocks(Curve, untouched(), one, two) == []
    (curve,) = blocks(Curve, untouched(), one, two, tuned("FTAL 0.1", 0.1, 5))
    rates, matched = curve.series["FTAL"]
    assert list(rates) == pytest.approx([-3, -2, -1])
    assert list(matched) == [100, 50, 25]


def test_every_row_is_drawn_and_the_page_is_written() -> None:
    rows = [untouched(), tuned("FTAL <1>", 0.01, 10), tuned("FTAL 2", 0.1, 0)]
    (dots,) = blocks(Dots, *rows)
    assert list(dots.values) == ["no attack", "FTAL <1>", "FTAL 2"]
    page = Report("A mark").add(attack_section({"rows": rows})).html()
    assert "FTAL &lt;1&gt;" in page
    assert "FTAL <1>" not in page


def test_seeds_count_by_their_weakest() -> None:
    tables = [
        {"rows": [untouched(), row("steady", -40.0), row("moody", -35.0, matches=10)]},
        {"rows": [untouched(), row("steady", -41.0), row("moody", -20.0, matches=6), row("x", 0)]},
    ]
    section = seeds_section(tables)
    (verdict,) = [block for block in section.blocks if isinstance(block, Verdict)]
    assert (verdict.answer, verdict.detail) == (False, "not after: moody")
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    assert [line[0] for line in table.rows] == ["no attack", "steady", "moody"]
    moody = table.rows[2]
    assert moody[2] == "40.0 % ± 14.1"
    assert moody[4] == "1 of 2"
    (dots,) = [block for block in section.blocks if isinstance(block, Dots)]
    assert list(dots.values["moody"]) == [50, 30]
    with pytest.raises(InvalidInput, match="no attack tables"):
        seeds_section([])


def trial(matches: int | None, *, convinced: bool = False) -> dict[str, Any]:
    return {"suspect": "m", "matches": matches, "convinced": convinced}


def claimed(scheme: str, attack: str, *trials: dict[str, Any]) -> dict[str, Any]:
    return {"scheme": scheme, "attack": attack, "n": 20, "trials": list(trials)}


def test_false_claims_are_about_keys_and_random_keys_lie_on_the_diagonal() -> None:
    claims = [
        claimed("free-choice", "chosen pictures", trial(20, convinced=True)),
        claimed("keyed", "random key", trial(2), trial(4)),
        claimed("keyed", "foreign pictures", trial(None)),
    ]
    points = [
        {"log2_p": -10.0, "share": 0.001, "low": 0.0, "high": 0.01},
        {"log2_p": 0.0, "share": 1.0, "low": 0.99, "high": 1.0},
    ]
    law = {
        "suspect": "m", "keys": 1000, "smallest_log2_p": -10.0, "ks_p": 0.4, "chi_square_p": 0.5,
        "points": points,
    }  # fmt: skip
    section = false_claims_section(claims, [law])
    kinds = {
        kind: [b for b in section.blocks if isinstance(b, kind)] for kind in (Verdict, Table, Curve)
    }
    (verdict,) = kinds[Verdict]
    assert (verdict.answer, verdict.welcome) == (False, True)
    assert [line[2:] for line in kinds[Table][0].rows] == [
        ["100.0 %", "1 of 1"], ["15.0 %", "0 of 2"], ["not admitted", "0 of 1"],
    ]  # fmt: skip
    (curve,) = kinds[Curve]
    places, shares = curve.series["m"]
    assert list(places) == pytest.approx([0, 3.0103], abs=1e-3)
    assert list(shares) == pytest.approx([0, 3.0])
    assert curve.series["uniform"][0] == curve.series["uniform"][1]
    guilty = [*claims, claimed("keyed", "a miracle", trial(20, convinced=True))]
    section = false_claims_section(guilty, [])
    (verdict,) = [block for block in section.blocks if isinstance(block, Verdict)]
    assert (verdict.answer, verdict.welcome) == (True, False)
    assert "a miracle" in verdict.detail
    assert "uniform law" in Report("x").add(false_claims_section(claims, [law])).html()
