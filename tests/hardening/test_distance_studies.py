"""The studies of class distances: their grids, and their quick tiers on digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.distance_speed import _agree, _some_pairs
from doorward.hardening import measuring
from doorward.models import ARCHITECTURES
from doorward.poisoning import ATTACKS

STUDIES = ("class-distance", "distance-speed")


@pytest.mark.parametrize("tier", db.TIERS)
def test_all_options_exist(tier: str) -> None:
    grid = db.STUDIES["class-distance"].grid_of(tier)
    for options in grid.settings.values():
        assert options["architecture"] in ARCHITECTURES
        assert options["suspect"] in ("clean", *ATTACKS)
        for kind in grid.methods:
            measuring(kind, **options["distance"])  # type: ignore[arg-type]
    for options in db.STUDIES["distance-speed"].grid_of(tier).settings.values():
        measuring("patch", **options["ours"])
        pairs = _some_pairs(10, options["some"])
        assert len(set(pairs)) == len(pairs)
        assert all(s != t for s, t in pairs)


def test_distances_agree_within_their_spread() -> None:
    assert _agree([1.0, 2.0], [1.05, 2.1])
    assert _agree([1.0, 4.0], [2.0, 2.0])
    assert not _agree([1.0, 1.0, 1.0], [2.0, 2.1, 1.9])
    assert not _agree([None], [1.0])


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_quick_tiers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    result = db.run(name, "quick", seeds=1, engine="inline", out=tmp_path)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    if name == "class-distance":
        rows = {(row.method, row.setting.partition(";")[0]): row.metrics for row in result.rows}
        attacked, clean = rows["patch", "badnets"], rows["patch", "clean"]
        assert attacked["target_ratio"] < clean["target_ratio"]
        assert attacked["attack_success"] > 0.6
    else:
        (row,) = result.rows
        assert row.metrics["batching_ratio"] > 1
