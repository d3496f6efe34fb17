"""The studies of removal: their grids, and their quick tiers on digits."""

from __future__ import annotations

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies.removal_methods import METHODS, NOTHING, PURGES, parameters
from doorward.removal import removal
from doorward.scanning import scanner


@pytest.fixture(scope="module", autouse=True)
def shared_victims(tmp_path_factory):
    """Victims of these tests are trained once, and not left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOORWARD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def measure(name: str, out) -> dict[str, dict]:
    result = db.run(name, "quick", seeds=1, engine="inline", out=out)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    return {row.method: row.metrics for row in result.rows}


@pytest.mark.parametrize("tier", db.TIERS)
def test_all_parameters_exist(tier: str) -> None:
    numbers = parameters(tier, 0.05)
    for name, changed in numbers["methods"].items():
        assert name in METHODS
        removal(name, **changed)
    purging = numbers["purge"]
    scanner(purging["scanner"], **purging["scanner_options"])
    for name, changed in purging["finish"]:
        removal(name, **changed)


def test_the_board_asks_for_enough() -> None:
    grid = db.STUDIES["removal-board"].grid_of("cpu")
    attacks = {options["attack"] for options in grid.settings.values()}
    assert len(attacks) >= 8
    assert len(set(grid.methods) - {NOTHING}) >= 13
    assert {options["share"] for options in grid.settings.values()} == {0.05, 0.01}


@pytest.mark.slow
def test_removal_board(tmp_path) -> None:
    rows = measure("removal-board", tmp_path)
    assert set(rows) == set(METHODS)
    for metrics in rows.values():
        gain = max(0.0, metrics["attack_before"] - metrics["attack_success"])
        cost = max(0.0, metrics["accuracy_before"] - metrics["accuracy"])
        assert metrics["der"] == pytest.approx((gain - cost + 1) / 2)
        assert metrics["attack_before"] > 0.8
    nothing = rows[NOTHING]
    assert nothing["attack_success"] == nothing["attack_before"]
    assert (nothing["der"], nothing["seconds"]) == (0.5, 0)
    assert all(rows[name]["seconds"] > 0 for name in METHODS if name != NOTHING)
    assert min(metrics["attack_success"] for metrics in rows.values()) < 0.3
    # On 29 held-out images 4 points are one image; on test images that is blurred.
    assert all(rows[name]["cost"] < 10 for name in PURGES)


@pytest.mark.slow
def test_removal_retuning(tmp_path) -> None:
    rows = measure("removal-retuning", tmp_path)
    for metrics in rows.values():
        curve = [metrics[f"epoch {epoch} | success"] for epoch in range(5)]
        plain = [metrics[f"epoch {epoch} | clean"] for epoch in range(5)]
        gained = sum(curve) / 5 - sum(plain) / 5
        assert metrics["head_start"] == pytest.approx(100 * gained)
        assert (metrics["success_first"], metrics["clean_last"]) == (curve[0], plain[-1])
        assert "epoch 5 | success" not in metrics
    untouched = rows[NOTHING]
    assert untouched["epochs_to_half"] == 0
    assert untouched["head_start"] > 30
    assert rows["fst"]["head_start"] < untouched["head_start"]
