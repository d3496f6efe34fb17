"""The study of extraction from leaning models: its grids, and its quick tier on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.honeypot_extraction import METHODS
from doorward.extraction import EXTRACTIONS, Answers
from doorward.honeypot import LeanBudget

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
