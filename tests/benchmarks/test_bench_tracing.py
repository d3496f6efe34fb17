"""The study of tracing: its quick tier on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db


@pytest.mark.slow
def test_tracing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run("watermark-tracing", "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    (row,) = result.rows
    found = row.metrics
    assert {metric.name for metric in db.STUDIES["watermark-tracing"].metrics} <= set(found)
    for name in ("traced", "traced_fine_tuned", "exact_fine_tuned", "traced_int8"):
        assert found[name] == 1
    assert found["answering_two_all"] == 1
    assert (found["innocents_named"], found["false_accusations"], found["checks"]) == (0, 0, 15)
    assert found["matches_least"] > 0.7
    assert found["cost"] < 6
    assert found["seconds_per_trace"] < 5
