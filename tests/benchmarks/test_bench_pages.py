"""Summaries and pages."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward import benchmarks as db
from doorward.benchmarks.markdown import code, escape
from doorward.benchmarks.summary import group_rows, show, show_value
from doorward.errors import BadFile, MissingData
from doorward.files import write_json

ROW = db.Row(
    method="ours",
    setting="digits",
    seed=0,
    metrics={"ratio": 2.0, "precision": "bf16"},
    seconds=10.0,
    peak_memory_mib=500.0,
    environment="aaaaaaaa",
    engine="local",
    made="2026-01-02T03:04:05+00:00",
    cell="0" * 64,
)
RESULT = db.StudyResult(
    study="training-speed",
    version=db.STUDIES["training-speed"].version,
    tier="cpu",
    command="doorward bench run training-speed --tier cpu",
    seeds=[0, 1],
    shrinks="Few steps.",
    rows=[
        ROW,
        dataclasses.replace(
            ROW, seed=1, cell="2" * 64, metrics={"ratio": 3.0, "precision": "bf16"}
        ),
    ],
    failures=[],
    environments={"aaaaaaaa": {"python": "3.11"}},
)


@pytest.mark.parametrize(
    ("values", "kind", "text"),
    [
        ([2.0, 3.0], "ratio", "2.50 ± 0.71\N{MULTIPLICATION SIGN}"),
        ([2.5], "ratio", "2.5\N{MULTIPLICATION SIGN}"),
        ([0.86, 0.88], "percent", "87.0 ± 1.4 %"),
        ([True, False, True], "yesno", "2 of 3"),
        ([-216.0, -200.0], "log2", "2⁻²⁰⁸"),
        ([1400.0, 1500.0], "number", "1450 ± 71"),
        ([5.0, 5.0], "number", "5 ± 0"),
        ([], "number", "\u2013"),
    ],
)
def test_summaries_as_text(values, kind, text: str) -> None:
    assert show(db.summarise(values), db.Metric("m", "M", kind)) == text


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20))
def test_summaries_are_in_order(values: list[float]) -> None:
    summary = db.summarise(values)
    assert summary is not None
    slack = 1e-9 * max(1.0, *(abs(v) for v in values))
    assert summary.low - slack <= summary.mean <= summary.high + slack
    assert (summary.std is None) == (len(values) == 1)
    assert summary.n == len(values)


def test_single_values() -> None:
    assert show_value(True, db.Metric("m", "M", "yesno")) == "yes"
    assert show_value(None, db.Metric("m", "M", "percent")) == "\u2013"
    assert show_value("bf16", db.Metric("m", "M")) == "bf16"


def test_rows_of_different_environments_are_never_averaged() -> None:
    other = dataclasses.replace(ROW, environment="bbbbbbbb", metrics={"ratio": 9.0})
    groups = group_rows([ROW, other])
    assert [(g.environment, g.numbers("ratio")) for g in groups] == [
        ("aaaaaaaa", [2.0]),
        ("bbbbbbbb", [9.0]),
    ]


def write(folder: Path, result: db.StudyResult) -> None:
    write_json(folder / f"{result.study}-{result.tier}.json", result.to_dict())


def test_pages_and_board(tmp_path) -> None:
    failure = db.Failure(
        method="ours",
        setting="digits",
        seed=2,
        error="MissingData: <none> | here",
        seconds=1.0,
        environment="aaaaaaaa",
        engine="local",
        made=ROW.made,
        cell="1" * 64,
    )
    write(tmp_path, dataclasses.replace(RESULT, failures=[failure]))
    written = db.report(tmp_path, tmp_path / "docs")
    assert all(path.is_file() for path in written)
    page = (tmp_path / "docs" / "training-speed.md").read_text()
    assert "| digits | ours | 2.50 ± 0.71\N{MULTIPLICATION SIGN} | bf16 |" in page
    assert "MissingData: &lt;none&gt; \\| here" in page
    assert "doorward bench run training-speed --tier cpu" in page
    for image in re.findall(r"\]\(([^)]+\.svg)\)", page):
        svg = (tmp_path / "docs" / image).read_text()
        assert svg.startswith("<svg")
        assert "prefers-color-scheme: dark" in svg
    assert "training-speed.md" in (tmp_path / "docs" / "index.md").read_text()
    board = (tmp_path / "docs" / "board.html").read_text()
    assert "2.50 ± 0.71" in board
    assert "Seconds" in board
    assert "aaaaaaaa" in board
    assert "<none>" not in board


def test_several_environments_and_old_versions_are_pointed_out(tmp_path) -> None:
    other = dataclasses.replace(ROW, environment="bbbbbbbb", cell="2" * 64)
    mixed = dataclasses.replace(
        RESULT,
        version=999,
        rows=[ROW, other],
        environments={"aaaaaaaa": {"python": "3.11"}, "bbbbbbbb": {"python": "3.12"}},
    )
    write(tmp_path, mixed)
    db.report(tmp_path, tmp_path)
    page = (tmp_path / "training-speed.md").read_text()
    assert "compare no speeds between them" in page
    assert "version 999" in page
    assert "### Environment bbbbbbbb" in page
    assert re.search(r"\| digits \| ours \| 2. \|.*\| 1 \| aaaaaaaa \|", page)
    assert re.search(r"\| digits \| ours \| 2. \|.*\| 1 \| bbbbbbbb \|", page)


def test_results_of_an_unknown_study_are_still_shown(tmp_path) -> None:
    rows = [dataclasses.replace(ROW, strength={"l2": 1.5}, note="a remark")]
    write(tmp_path, dataclasses.replace(RESULT, study="somebody-elses", rows=rows))
    db.report(tmp_path, tmp_path)
    page = (tmp_path / "somebody-elses.md").read_text()
    assert "| digits | ours | 2 | bf16 | 1.5 |" in page
    assert "a remark" in (tmp_path / "board.html").read_text()


def test_nothing_to_report_and_damaged_results(tmp_path) -> None:
    with pytest.raises(MissingData, match="no results"):
        db.report(tmp_path, tmp_path)
    (tmp_path / "a-quick.json").write_text("{}")
    with pytest.raises(BadFile, match=r"a-quick\.json"):
        db.report(tmp_path, tmp_path)


@given(st.text())
def test_escaped_text_stays_on_its_line_and_brings_no_markup(text: str) -> None:
    safe = escape(text)
    assert "\n" not in safe
    assert "<" not in safe
    assert not re.search(r"(?<!\\)(\\\\)*[|`*\[\]]", safe)


def test_code_cannot_close_its_own_fence() -> None:
    assert code("a ``` b").startswith("````sh\n")
