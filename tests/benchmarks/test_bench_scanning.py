"""The study of detection: its grids, its controls, and its quick tier on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.scan_detection import METHODS, PATCHES
from doorward.data import load
from doorward.models import ARCHITECTURES
from doorward.poisoning import ATTACKS
from doorward.scanning import SCANNERS, scanner
from doorward.triggers import Patch

NAME = "scan-detection"


@pytest.mark.parametrize("tier", db.TIERS)
def test_all_options_exist(tier: str) -> None:
    for options in db.STUDIES[NAME].grid_of(tier).settings.values():
        for name, changed in options["scanners"].items():
            if name in SCANNERS:
                scanner(name, **changed)
        assert options["architecture"] in ARCHITECTURES


@pytest.mark.parametrize("tier", ["cpu", "paper"])
def test_there_are_enough_models(tier: str) -> None:
    grid = db.STUDIES[NAME].grid_of(tier)
    kinds = [options["suspect"]["kind"] for options in grid.settings.values()]
    assert kinds.count("clean") >= 20
    assert kinds.count("patch") >= 20
    assert kinds[: kinds.count("clean")] == ["clean"] * kinds.count("clean")
    named = {o["suspect"].get("name") for o in grid.settings.values()} - {None}
    assert named == set(ATTACKS.names())
    assert len({options["architecture"] for options in grid.settings.values()}) >= 4
    targets = {o["suspect"].get("target") for o in grid.settings.values()} - {None}
    assert len(targets) >= 5
    assert grid.methods == METHODS
    assert "mesa-reference" not in METHODS


@pytest.mark.parametrize("name", PATCHES)
def test_patches_fit(name: str) -> None:
    images = load("digits").with_channels(3).pixels([0, 1])
    changed = (Patch(**PATCHES[name])(images) != images).any(1).flatten(1).sum(1)
    assert 0 < int(changed.max()) <= 16


@pytest.mark.slow
def test_scan_detection(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(NAME, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[NAME].metrics}
    rows = {(row.method, row.setting.partition(",")[0]): row.metrics for row in result.rows}
    assert {method for method, _ in rows} == set(METHODS)
    for method in METHODS:
        clean, attacked = rows[method, "clean"], rows[method, "white corner"]
        assert shown <= set(clean)
        assert shown <= set(attacked)
        assert (clean["named"], clean["target"], clean["attack_success"]) == (None, None, None)
        assert clean["falsely"] == (clean["statistic"] > clean["alarm"])
        assert (clean["controls"], attacked["controls"]) == (1, 2)
        assert attacked["attack_success"] > 0.9
        assert attacked["target"] == 3
        assert attacked["largest_clean"] >= clean["statistic"]
        assert attacked["p_value"] in (1 / 3, 2 / 3, 1.0)
    assert rows["neural-cleanse", "white corner"]["named"]
    for method in ("mm-bd", "neural-cleanse", "pixel"):
        attacked = rows[method, "white corner"]
        assert attacked["suspect"] == 3
        assert attacked["p_value"] == 1 / 3
    # Each model was scanned once by each scanner.
    scans = list((tmp_path / "home" / "studies" / "scans").iterdir())
    assert len(scans) == 3 * len(METHODS)
