"""The studies that come with Doorward: their grids, and their quick tier on digits."""

from __future__ import annotations

import json

import pytest
import torch

from doorward import benchmarks as db
from doorward.benchmarks.studies.plain import PlainImages
from doorward.data import load
from doorward.errors import MissingData

OURS = [name for name in db.STUDIES if db.STUDIES[name].module.startswith("doorward.")]


@pytest.mark.parametrize("tier", db.TIERS)
@pytest.mark.parametrize("name", OURS)
def test_grids_are_json_and_say_what_they_shrink(name: str, tier: str) -> None:
    grid = db.STUDIES[name].grid_of(tier)
    assert db.Grid.from_dict(json.loads(json.dumps(grid.to_dict()))) == grid
    assert bool(grid.shrinks) == (tier != "paper")
    if tier == "quick":
        assert {options["dataset"] for options in grid.settings.values()} == {"digits"}
    cells = db.STUDIES[name].cells(tier)
    assert len({cell.digest() for cell in cells}) == len(cells)


def measure(name: str, out) -> db.StudyResult:
    result = db.run(name, "quick", seeds=1, engine="inline", out=out)
    assert [failure.error for failure in result.failures] == []
    shown = {metric.name for metric in db.STUDIES[name].metrics}
    for row in result.rows:
        assert shown <= set(row.metrics)
    return result


def test_training_speed(tmp_path) -> None:
    (row,) = measure("training-speed", tmp_path).rows
    metrics = row.metrics
    assert metrics["ratio"] == pytest.approx(
        metrics["images_per_second"] / metrics["plain_images_per_second"]
    )
    assert metrics["overhead"] == pytest.approx(
        1 - metrics["bare_step_seconds"] / metrics["step_seconds"]
    )
    assert metrics["overhead"] < 1


def test_training_accuracy(tmp_path) -> None:
    (row,) = measure("training-accuracy", tmp_path).rows
    assert row.metrics["accuracy"] > 0.9
    assert row.metrics["epochs"] == 5


def test_watermark_basic(tmp_path) -> None:
    rows = {row.method: row.metrics for row in measure("watermark-basic", tmp_path).rows}
    assert [rows[m]["verified"] for m in ("unmarked", "from-scratch", "pretrained")] == [
        False,
        True,
        True,
    ]
    for metrics in rows.values():
        assert metrics["stranger_verified"] is False
        assert not metrics["independent_verified"]
        assert metrics["accuracy"] > 0.9


def test_missing_data_is_said_before_the_first_cell(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOORWARD_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=r"cifar10.*doorward data fetch cifar10"):
        db.run("training-accuracy", "cpu", out=tmp_path)


def test_the_plain_way_crops_flips_and_normalises() -> None:
    source = load("digits", size=16)
    plain = PlainImages(source, 0, (0.5,), (0.25,))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = [plain[3] for _ in range(20)]
    straight = (source.images[3].float() / 255 - 0.5) / 0.25
    kinds = {bool(torch.equal(image, straight)) for image, _ in seen}
    assert kinds == {True, False}
    assert all(
        torch.equal(image, straight) or torch.equal(image, straight.flip(2)) for image, _ in seen
    )
    assert {label for _, label in seen} == {int(source.labels[3])}
