"""The studies of false claims and of piracy: their quick tier on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.watermark.disputes import FALSE_CLAIMS


@pytest.fixture(autouse=True)
def _models_of_its_own(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))


def measure(name: str, out) -> dict[str, dict]:
    result = db.run(name, "quick", seeds=1, engine="inline", out=out)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    return {row.method: row.metrics for row in result.rows}


@pytest.mark.slow
def test_false_claims(tmp_path) -> None:
    rows = measure("watermark-false-claims", tmp_path)
    assert len(rows) == len(FALSE_CLAIMS) + 1
    for method, metrics in rows.items():
        assert metrics["models"] == 2
        if method.startswith("keyed"):
            assert metrics["convicted"] == 0
    assert rows["free-choice: adversarial-pictures"]["matches"] > 0.3
    assert rows["free-choice: labels-read-off"]["convicted"] == 1
    assert rows["keyed: foreign-pictures"]["admitted"] is False
    keys = rows["keyed: many random keys"]
    assert keys["below_1e6"] == 0
    assert min(keys["ks_p"], keys["chi_square_p"]) > 1e-3
    assert sum(keys[f"keys_with_{m}_matches"] for m in range(31)) == 2 * 60


@pytest.mark.slow
def test_piracy(tmp_path) -> None:
    rows = measure("watermark-piracy", tmp_path)
    gentle = rows["same epochs, 1/100 of the rate"]
    assert gentle["first_verified"]
    assert gentle["settled"]
    assert not any(metrics["model_wrong"] for metrics in rows.values())
    for metrics in rows.values():
        if metrics["first_verified"] and metrics["second_verified"]:
            assert metrics["settled"]
            assert metrics["settled_squatted"]
            assert metrics["asymmetry_p"] <= 1
