"""The studies of trading: their grids, and their quick tiers on one small lock."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.studies import locks
from doorward.benchmarks.studies.trading_ablation import VARIANTS
from doorward.benchmarks.studies.trading_controls import CONTROLS, LOOKED_INTO
from doorward.benchmarks.studies.trading_security import BUYERS, buyer
from doorward.trading import MASKS

STUDIES = ("trading-lock", "trading-controls", "trading-security", "trading-ablation")


@pytest.fixture(scope="module", autouse=True)
def shared_locks(tmp_path_factory):
    """Locks of these tests are made once, and not left in the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOORWARD_HOME", str(tmp_path_factory.mktemp("home")))
        yield


def measure(name: str, *methods: str, setting: str = "") -> dict[str, dict[str, Any]]:
    """Rows of some methods of a quick tier, in the settings that begin so."""
    study = db.STUDIES[name]
    rows = {}
    for cell in study.cells("quick", [0]):
        if cell.method in methods and cell.setting.startswith(setting):
            outcome = study.measure(cell)
            assert isinstance(outcome, db.Outcome)
            rows[cell.method] = dict(outcome.metrics)
    assert set(rows) == set(methods)
    shown = {metric.name for metric in study.metrics}
    assert all(shown <= set(row) for row in rows.values())
    return rows


@pytest.mark.slow
def test_a_lock_holds_and_opens() -> None:
    (row,) = measure("trading-lock", "channel").values()
    assert row["trial_attack"] > 0.9
    assert row["unlocked_attack"] < 0.1
    assert row["clean_attack"] < 0.3
    assert row["unlocked_accuracy"] > 0.8
    assert row["trial_cost"] == pytest.approx(100 * (row["clean_accuracy"] - row["trial_accuracy"]))
    assert row["same_graph"] is True
    assert row["key_bytes"] > 1000
    assert row["psnr"] > 29  # eight grey levels at most: -20 log10(8 / 255) = 30.1


def test_only_the_key_unlocks(monkeypatch) -> None:
    names = (
        "key", "key marked for a buyer", "wrong key", "shuffled key", "statistics without masks",
        "half the sites", "fine-tuned", "fine-tuned, then key",
    )  # fmt: skip
    rows = measure("trading-lock", "channel")
    monkeypatch.setattr(locks, "lock", None)  # read back and not made again
    trial = rows["channel"]["trial_accuracy"]
    rows = measured_without_scan(names)
    assert rows["key"]["attack"] < 0.1 < 0.8 < rows["key"]["accuracy"]
    assert rows["key marked for a buyer"]["attack"] < 0.1
    for name in ("wrong key", "shuffled key", "statistics without masks"):
        assert rows[name]["attack"] > 0.5 or rows[name]["accuracy"] < trial - 0.1, name


def measured_without_scan(names: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Rows of the controls as everybody gets them; who is looked into is tested on its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("doorward.benchmarks.studies.trading_controls.LOOKED_INTO", ())
        return measure("trading-controls", *names)


def test_the_price_of_cheating_is_counted() -> None:
    names = ("nothing", "fine-tuning 0.05", "distillation")
    rows = measure("trading-security", *names, setting="plain")
    nothing = rows["nothing"]
    assert (nothing["attack"], nothing["cost"]) == (nothing["trial_attack"], 0)
    assert nothing["succeeds"] is False
    for row in rows.values():
        assert row["succeeds"] == (row["attack"] < 0.1 and row["cost"] <= 1)
        assert row["images"] == 144
    assert rows["distillation"]["cost"] > 5  # a new network, from 144 images
    assert rows["fine-tuning 0.05"]["seconds"] > 0


def test_the_ablation_names_its_locks() -> None:
    (row,) = measure("trading-ablation", "channel").values()
    (lock,) = measure("trading-lock", "channel").values()
    assert row["trial_attack"] == lock["trial_attack"]  # the same lock, from the disk
    assert row["folds"] is True
    assert row["wrong_key_attack"] > 0.5 or row["wrong_key_accuracy"] < row["trial_accuracy"] - 0.1


@pytest.mark.parametrize("tier", ["cpu", "paper"])
def test_the_larger_tiers_ask_for_what_was_asked(tier: str) -> None:
    cells = {name: db.STUDIES[name].cells(tier) for name in STUDIES}
    lock = cells["trading-lock"]
    assert len({cell.setting for cell in lock}) == 3
    assert {cell.seed for cell in lock} == {0, 1, 2}
    security = cells["trading-security"]
    assert {cell.options["share"] for cell in security} == {0.01, 0.05, 0.1, 0.2}
    assert {cell.options["lock"] for cell in security} == {"plain", "anti-recovery"}
    for cell in security:
        buyer(cell.method, cell.options["methods"].get(cell.method, {}))
    assert {cell.method for cell in security} == set(BUYERS)
    assert {cell.method for cell in cells["trading-ablation"]} == set(VARIANTS) >= set(MASKS)
    assert {cell.method for cell in cells["trading-controls"]} == set(CONTROLS) > set(LOOKED_INTO)


def hurried(name: str, method: str, **options: Any) -> dict[str, Any]:
    """A row of any method on a lock of two steps: whether it runs, not what it shows."""
    cell = db.STUDIES[name].cells("quick", [0])[0]
    recipe = {**cell.options["recipe"], "max_steps": 2}
    changed = {**cell.options, "recipe": recipe, "images": 300, **options}
    outcome = db.STUDIES[name].measure(dataclasses.replace(cell, method=method, options=changed))
    assert isinstance(outcome, db.Outcome)
    return dict(outcome.metrics)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_lock_of_the_ablation_runs(variant: str) -> None:
    row = hurried("trading-ablation", variant, buyer_epochs=1.0)
    assert row["sites"] >= 1
    assert 0 <= row["wrong_key_attack"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("method", BUYERS)
def test_every_buyer_runs(method: str) -> None:
    (numbers,) = {
        repr(cell.options["methods"]): cell.options["methods"]
        for cell in db.STUDIES["trading-security"].cells("cpu")
        if cell.options["share"] == 0.2
    }.values()
    assert 0 <= hurried("trading-security", method, share=0.2, methods=numbers)["attack"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("name", STUDIES)
def test_the_whole_quick_tier(name: str, tmp_path) -> None:
    result = db.run(name, "quick", seeds=1, engine="inline", out=tmp_path / "results")
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    assert all(shown <= set(row.metrics) for row in result.rows)
    if name == "trading-controls":
        rows = {row.method: row.metrics for row in result.rows}
        assert rows["no key"]["epochs_to_half"] == 0
        assert all(isinstance(rows[method]["accused"], bool) for method in LOOKED_INTO)
        assert rows["wrong key"]["accused"] is None
