"""The studies of MESA: their quick tiers on digits, and how they share out the triggers."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.mesa_triggers import METHODS, _triggers
from doorward.scanning.mesa.reference import pattern_numbers


def measure(name: str, tmp_path, monkeypatch) -> list[db.Row]:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(name, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    return result.rows


def test_seeds_take_other_triggers_until_all_were_taken() -> None:
    cells = db.STUDIES["mesa-triggers"].cells("cpu", range(17))
    taken = [
        label
        for cell in cells
        if cell.method == METHODS[0] and cell.options["kind"] == "black and white"
        for label, _ in _triggers(cell)
    ]
    assert sorted(taken) == sorted(f"black and white {number}" for number in pattern_numbers())


@pytest.mark.slow
def test_mesa_triggers(tmp_path, monkeypatch) -> None:
    rows = measure("mesa-triggers", tmp_path, monkeypatch)
    assert len(rows) == 2 * len(METHODS)
    for kind in ("black and white", "colour"):
        of = {row.method: row.metrics for row in rows if row.setting.startswith(kind)}
        assert of["no repair"]["attack_success"] > 0.8
        assert of["no repair"]["cost"] == 0
        assert of["true trigger"]["attack_success"] < of["no repair"]["attack_success"] / 2
        assert of["MESA, ensemble"]["attack_success"] < of["no repair"]["attack_success"]
        assert (of["one point"]["spread"] is None, of["ten points"]["spread"]) == (False, None)


@pytest.mark.slow
def test_scan_speed(tmp_path, monkeypatch) -> None:
    backdoored, clean = measure("scan-speed", tmp_path, monkeypatch)
    assert backdoored.metrics["attack_success"] > 0.8
    assert clean.metrics["attack_success"] < 0.3
    for row in (backdoored, clean):
        metrics = row.metrics
        assert metrics["ratio"] == pytest.approx(
            metrics["reference_seconds"] / metrics["scan_seconds"]
        )
        assert metrics["same_verdict"] == (metrics["accused"] == metrics["reference_accused"])
        assert metrics["right"] == (metrics["accused"] == ("0" if row is backdoored else "none"))
    assert backdoored.metrics["reference_suspect"] == 0
