"""The studies of hardening: their grids, and their quick tiers on digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.hardened import method_of
from doorward.benchmarks.studies.hardening_distance import spread_pairs
from doorward.benchmarks.studies.removal_methods import NOTHING
from doorward.hardening import FAMILIES, HARDENINGS, measuring
from doorward.models import ARCHITECTURES
from doorward.poisoning import ATTACKS
from doorward.removal import removal

STUDIES = ("hardening-distance", "hardening-natural", "hardening-removal")


@pytest.mark.parametrize("tier", db.TIERS)
def test_all_options_exist(tier: str) -> None:
    for name in STUDIES[:2]:
        for cell in db.STUDIES[name].cells(tier):
            assert cell.options["architecture"] in ARCHITECTURES
            for method in HARDENINGS if name == "hardening-distance" else ("deck", "moth", "pgd"):
                assert method_of(cell, method).name == method
            for kind in cell.options.get("kinds", []):
                measuring(kind, **cell.options["attack"])
            assert cell.options.get("family", "flow") in FAMILIES
    for cell in db.STUDIES["hardening-removal"].cells(tier):
        assert cell.options["attack"] in ATTACKS
        if cell.method != NOTHING:
            removal(cell.method, **cell.options["methods"].get(cell.method, {}))


def test_pairs_are_spread() -> None:
    pairs = spread_pairs(10, 20)
    assert len(set(pairs)) == 20
    for place in (0, 1):
        assert sorted(pair[place] for pair in pairs) == sorted([*range(10)] * 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_quick_tiers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(name, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    rows = {row.method: row.metrics for row in result.rows}
    if name == "hardening-distance":
        assert rows["none"]["pixel_growth"] == 0
        assert rows["none"]["cost"] == 0
        assert rows["deck"]["seconds"] > 0
    if name == "hardening-removal":
        assert rows["deck"]["attack_before"] == rows[NOTHING]["attack_success"]
