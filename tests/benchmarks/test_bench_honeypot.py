"""The studies of the honeypot: their grids, and their quick tiers on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies import honeypot_controls, honeypot_ownership
from doorward.benchmarks.studies.honeypot_extraction import METHODS
from doorward.extraction import EXTRACTIONS, Answers
from doorward.honeypot import LeanBudget
from doorward.honeypot.head import HEADS

NAME = "honeypot-extraction"


@pytest.mark.parametrize("tier", db.TIERS)
def test_all_options_exist(tier: str) -> None:
    grid = db.STUDIES[NAME].grid_of(tier)
    assert grid.methods == METHODS
    for options in grid.settings.values():
        attack = options["attack"]
        record = EXTRACTIONS[attack["method"]].from_dict(attack["parameters"])
        assert record.needs == "any" or Answers.of(attack["answers"]).soft
        LeanBudget.from_dict(options["budget"])
    seen = {options["attack"]["answers"] for options in grid.settings.values()}
    assert {"soft", "label"} <= seen


@pytest.mark.slow
def test_the_quick_tier_tells_copies_apart(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(NAME, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[NAME].metrics}
    rows = {(row.method, row.setting.partition(";")[0]): row.metrics for row in result.rows}
    assert len(rows) == 4
    for (method, setting), metrics in rows.items():
        assert shown <= set(metrics)
        if method == "undefended":
            assert metrics["agreement"] == 1.0
            assert metrics["ece_change"] == 0.0
        else:
            assert metrics["agreement"] == 1.0 or "label" in setting
            assert metrics["strength"] > 0
    taught, control = (rows[method, "random, soft"] for method in ("lean", "undefended"))
    assert taught["success_48"] > control["success_48"]
    assert not control["verified"]


@pytest.mark.parametrize("name", ["honeypot-controls", "honeypot-ownership", "honeypot-speed"])
@pytest.mark.parametrize("tier", db.TIERS)
def test_the_options_of_all_methods_exist(name: str, tier: str) -> None:
    grid = db.STUDIES[name].grid_of(tier)
    assert bool(grid.shrinks) == (tier != "paper")
    for options in grid.settings.values():
        LeanBudget.from_dict(options["budget"])
        for method in HEADS:
            HEADS[method].from_dict(options[method])
        assert options["owner"] + options["thief"] <= (1437 if tier == "quick" else 50_000)


def test_all_ways_and_all_hiding_places_are_compared() -> None:
    assert {"lean", "look-ahead", "faithful"} < set(honeypot_controls.METHODS)
    settings = db.STUDIES["honeypot-ownership"].grid_of("paper").settings
    assert {setting.partition(";")[0] for setting in settings} == set(honeypot_ownership.HIDING)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["honeypot-controls", "honeypot-ownership", "honeypot-speed"])
def test_the_quick_tiers_run(name, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(name, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    assert all(shown <= set(row.metrics) for row in result.rows)
    for row in result.rows:
        if row.method == "undefended":
            assert not row.metrics["verified"]
        if row.method == "lean" and name == "honeypot-controls":
            assert row.metrics["agreement"] == 1.0
            assert row.metrics["victim_accuracy_drop"] == 0.0
