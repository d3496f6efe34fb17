"""The study `attacks`: its quick tier, and that victims are trained once and told apart."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from doorward import benchmarks as db
from doorward.benchmarks.studies import planted as planted_module
from doorward.benchmarks.studies.attacks import QUICK
from doorward.benchmarks.studies.common import load_pair, task
from doorward.benchmarks.studies.planted import clean_model, planted_model
from doorward.benchmarks.study import Cell
from doorward.errors import UnknownName
from doorward.metrics import attack_outcome
from doorward.poisoning import ATTACKS


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))


def tiny(**changes: Any) -> Cell:
    options = task("digits", "resnet8", width=4, size=16, max_steps=4, batch_size=32)
    known: dict[str, Any] = {
        "study": "s", "version": 1, "tier": "quick", "method": "badnets", "setting": "digits",
        "seed": 0, "options": {**options, "target": 3},
    }  # fmt: skip
    return Cell(**{**known, **changes})


@pytest.mark.slow
def test_the_quick_tier_shows_attacks_that_work(tmp_path) -> None:
    result = db.run("attacks", "quick", seeds=1, engine="inline", out=tmp_path / "results")
    assert [failure.error for failure in result.failures] == []
    rows = {row.method: row for row in result.rows}
    assert set(rows) == set(QUICK)
    shown = {metric.name for metric in db.STUDIES["attacks"].metrics}
    for row in rows.values():
        numbers: dict[str, Any] = dict(row.metrics)
        assert shown <= set(numbers)
        assert numbers["success_low"] <= numbers["attack_success"] <= numbers["success_high"]
        assert numbers["attack_success"] + numbers["robust_accuracy"] <= 1
        assert numbers["clean_success"] < 0.3
        assert numbers["cost"] == pytest.approx(
            100 * (numbers["clean_accuracy"] - numbers["accuracy"])
        )
    assert rows["badnets"].metrics["attack_success"] > 0.8
    assert rows["badnets"].strength["linf"] == 1.0
    # All rows of a seed are compared with one and the same clean network.
    assert len({row.metrics["clean_accuracy"] for row in rows.values()}) == 1


@pytest.mark.parametrize("tier", ["cpu", "paper"])
def test_beyond_the_quick_tier_every_attack_is_measured(tier: str) -> None:
    assert {cell.method for cell in db.STUDIES["attacks"].cells(tier)} == set(ATTACKS)


def test_a_victim_is_trained_once_and_read_back_equal(monkeypatch) -> None:
    cell = tiny()
    train, test = load_pair(cell)
    first = planted_model(cell, train, test, "badnets")
    clean = clean_model(cell, train)

    def fail(*_: Any, **__: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(planted_module, "plant", fail)
    monkeypatch.setattr(planted_module, "fit", fail)
    again = planted_model(cell, train, test, "badnets")
    assert again.result == first.result
    assert again.seconds == first.seconds > 0
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name])
    # What was measured when it was planted is what the pair read back shows.
    outcome = attack_outcome(again.model, test, again.backdoor)
    assert outcome.attack_success == pytest.approx(first.result.attack_success)
    assert clean_model(cell, train).seconds == clean.seconds


def test_whatever_decides_a_victim_makes_another_one(monkeypatch) -> None:
    cell = tiny()
    train, test = load_pair(cell)
    asked: list[int] = []

    def plant(*_: Any, **__: Any) -> None:
        asked.append(1)
        raise InterruptedError

    monkeypatch.setattr(planted_module, "plant", plant)
    folders = set()
    for other in (
        cell,
        tiny(seed=1),
        tiny(options={**cell.options, "target": 4}),
        tiny(options={**cell.options, "width": 8}),
        tiny(options={**cell.options, "recipe": {**cell.options["recipe"], "lr": 0.05}}),
    ):
        with pytest.raises(InterruptedError):
            planted_model(other, train, test, "badnets")
        facts = {"target": other.options["target"]}
        folders.add(planted_module._folder(other, train, facts))
    with pytest.raises(InterruptedError):
        planted_model(cell, train, test, "badnets", rate=0.2)
    smaller = dataclasses.replace(train, images=train.images[:99], labels=train.labels[:99])
    folders.add(planted_module._folder(cell, smaller, {"target": 3}))
    assert len(folders) == 6
    assert len(asked) == 6  # an interrupted attack left nothing behind


def test_an_unknown_attack_is_named() -> None:
    cell = tiny()
    train, test = load_pair(cell)
    with pytest.raises(UnknownName, match="badnet"):
        planted_model(cell, train, test, "badnet")
