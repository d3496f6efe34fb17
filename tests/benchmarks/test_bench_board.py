"""The board: only missing cells, nothing lost when killed, failures kept apart."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator

import pytest

from doorward import benchmarks as db
from doorward.benchmarks.results import Store
from doorward.errors import (
    BadFile,
    InvalidInput,
    MissingData,
    StorageFailed,
    TrainingInterrupted,
    UnknownName,
)

CALLS: list[str] = []
TOY = """
    from doorward import benchmarks as db
    import os, signal, time

    def grid(tier):
        return db.Grid(methods=("add", "multiply"), settings={"three": {"n": 3}}, seeds=2,
                       shrinks="everything")

    @db.study("toy", version=1, title="Toy", question="Which?", grid=grid,
              metrics=(db.Metric("value", "Value", plot=True),))
    def toy(cell):
        n = cell.options["n"] + cell.seed
        if os.environ.get("TOY_SLOW") == cell.label:
            time.sleep(600)
        if os.environ.get("TOY_KILL") == cell.label:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"value": n + n if cell.method == "add" else n * n}
"""


@pytest.fixture
def toy(tmp_path, monkeypatch) -> Iterator[db.Study]:
    """A study in a file of its own, that no process can import by name."""
    entries, facts = dict(db.STUDIES._entries), dict(db.STUDIES._facts)
    file = tmp_path / "toy_study.py"
    file.write_text(textwrap.dedent(TOY))
    code = compile(file.read_text(), str(file), "exec")
    exec(code, {"__name__": "toy_study_elsewhere"})
    study = dataclasses.replace(db.STUDIES["toy"], file=str(file))
    CALLS.clear()

    def counted(cell: db.Cell):
        CALLS.append(cell.label)
        return study.measure(cell)

    yield dataclasses.replace(study, measure=counted)
    db.STUDIES._entries, db.STUDIES._facts = entries, facts


def values(result: db.StudyResult) -> dict[tuple[str, int], object]:
    return {(row.method, row.seed): row.metrics["value"] for row in result.rows}


EXPECTED = {("add", 0): 6, ("multiply", 0): 9, ("add", 1): 8, ("multiply", 1): 16}


def test_a_setting_can_have_some_of_the_methods_only() -> None:
    methods, settings = ("add", "multiply"), {"three": {"n": 3}, "four": {"n": 4}}
    grid = db.Grid(methods=methods, settings=settings, seeds=2, only={"four": ("add",)})
    entry = db.Study(
        name="s", version=1, title="t", question="?", grid=lambda tier: grid, metrics=(),
        measure=lambda cell: {},
    )  # fmt: skip
    assert [(c.setting, c.method, c.seed) for c in entry.cells("quick")] == [
        ("three", "add", 0), ("three", "multiply", 0), ("four", "add", 0),
        ("three", "add", 1), ("three", "multiply", 1), ("four", "add", 1),
    ]  # fmt: skip
    for wrong in ({"five": ("add",)}, {"four": ("divide",)}):
        with pytest.raises(ValueError, match="no method or setting"):
            db.Grid(methods=methods, settings=settings, only=wrong)


def test_each_cell_is_measured_once(toy, tmp_path) -> None:
    first = db.run(toy, "quick", engine="inline", out=tmp_path)
    assert values(first) == EXPECTED
    assert len(CALLS) == 4
    again = db.run(toy, "quick", engine="inline", out=tmp_path)
    assert again == first
    assert len(CALLS) == 4
    more = db.run(toy, "quick", engine="inline", out=tmp_path, seeds=3)
    assert CALLS[4:] == ["add, three, seed 2", "multiply, three, seed 2"]
    assert (len(more.rows), more.seeds) == (6, [0, 1, 2])
    fewer = db.run(toy, "quick", engine="inline", out=tmp_path, seeds=1)
    assert (len(fewer.rows), fewer.seeds) == (6, [0]), "rows once measured are not thrown away"


def test_a_result_says_what_made_it(toy, tmp_path) -> None:
    result = db.run(toy, "quick", seeds=1, engine="inline", out=tmp_path)
    assert result.command == "doorward bench run toy --tier quick --seeds 1 --engine inline"
    assert result.shrinks == "everything"
    (key, environment), *others = result.environments.items()
    assert not others
    assert environment["packages"]["torch"]
    for row in result.rows:
        assert row.environment == key
        assert row.seconds > 0
        assert row.peak_memory_mib > 1
        assert row.made.endswith("+00:00")
    assert db.StudyResult.from_dict(json.loads((tmp_path / "toy-quick.json").read_text())) == result
    assert not (tmp_path / ".cells" / "toy-quick").exists()


@pytest.mark.parametrize("change", ["version", "options"])
def test_a_changed_study_or_recipe_voids_its_rows(toy, tmp_path, change: str) -> None:
    db.run(toy, "quick", engine="inline", out=tmp_path)
    if change == "version":
        other = dataclasses.replace(toy, version=2)
    else:
        grid = dataclasses.replace(toy.grid("quick"), settings={"three": {"n": 4}})
        other = dataclasses.replace(toy, grid=lambda tier: grid)
    result = db.run(other, "quick", engine="inline", out=tmp_path)
    assert len(CALLS) == 8
    assert len(result.rows) == 4
    assert (values(result) == EXPECTED) == (change == "version")


def test_a_failing_cell_is_recorded_and_tried_again(toy, tmp_path) -> None:
    def broken(cell: db.Cell):
        if cell.method == "add":
            raise InvalidInput("no", why="because <b>")
        return toy.measure(cell)

    result = db.run(
        dataclasses.replace(toy, measure=broken), "quick", engine="inline", out=tmp_path
    )
    assert [(f.method, f.seed) for f in result.failures] == [("add", 0), ("add", 1)]
    assert result.failures[0].error == "InvalidInput: no: because <b>"
    assert result.failures[0].where.startswith("test_bench_board.py:")
    assert len(result.rows) == 2
    healed = db.run(toy, "quick", engine="inline", out=tmp_path)
    assert healed.failures == []
    assert values(healed) == EXPECTED
    assert CALLS.count("multiply, three, seed 0") == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), object()])
def test_metrics_that_cannot_be_stored_fail_their_cell_only(toy, tmp_path, value) -> None:
    odd = dataclasses.replace(toy, measure=lambda cell: {"value": value})
    result = db.run(odd, "quick", seeds=1, engine="inline", out=tmp_path)
    assert len(result.failures) == 2
    assert "value" in result.failures[0].error


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), TrainingInterrupted("stopped")])
def test_ctrl_c_keeps_what_was_finished(toy, tmp_path, stop) -> None:
    def interrupted(cell: db.Cell):
        if cell.seed == 1:
            raise stop
        return toy.measure(cell)

    with pytest.raises(type(stop)):
        db.run(
            dataclasses.replace(toy, measure=interrupted), "quick", engine="inline", out=tmp_path
        )
    kept = Store(tmp_path, "toy", "quick").read()
    assert (len(kept.rows), kept.failures) == (2, [])


def test_outcomes_carry_strength_and_note(toy, tmp_path) -> None:
    outcome = db.Outcome(metrics={"value": True}, strength={"l2": 1.5}, note="odd")
    study = dataclasses.replace(toy, measure=lambda cell: outcome)
    row = db.run(study, "quick", engine="inline", out=tmp_path).rows[0]
    assert (row.metrics, row.strength, row.note) == ({"value": True}, {"l2": 1.5}, "odd")


def test_bad_calls_are_refused_before_anything_runs(toy, tmp_path) -> None:
    with pytest.raises(UnknownName, match="no study is called 'toyy'"):
        db.run("toyy", "quick", out=tmp_path)
    with pytest.raises(UnknownName, match=r"no tier is called 'qick'.*quick"):
        db.run(toy, "qick", out=tmp_path)
    with pytest.raises(UnknownName, match="no engine"):
        db.run(toy, "quick", engine="slurm", out=tmp_path)
    with pytest.raises(InvalidInput, match="0 seeds"):
        db.run(toy, "quick", seeds=0, out=tmp_path)

    def missing(grid: db.Grid) -> None:
        raise MissingData("no images")

    with pytest.raises(MissingData):
        db.run(dataclasses.replace(toy, prepare=missing), "quick", out=tmp_path)
    assert CALLS == []


@pytest.mark.parametrize("content", ["{", "[]", '{"study": "toy"}', "\x00"])
def test_a_damaged_result_is_refused_and_left_alone(toy, tmp_path, content: str) -> None:
    path = tmp_path / "toy-quick.json"
    path.write_text(content)
    with pytest.raises(BadFile, match=r"toy-quick\.json"):
        db.run(toy, "quick", engine="inline", out=tmp_path)
    assert path.read_text() == content
    assert CALLS == []


def test_a_damaged_cell_is_measured_again(toy, tmp_path) -> None:
    cell = toy.cells("quick")[0]
    folder = tmp_path / ".cells" / "toy-quick"
    folder.mkdir(parents=True)
    (folder / f"{cell.digest()}.json").write_text('{"row": {')
    (folder / "other.json").write_text('{"row": {"method": 3}, "environment": {}}')
    assert values(db.run(toy, "quick", engine="inline", out=tmp_path)) == EXPECTED


def test_a_full_disk_is_said_and_loses_no_row(toy, tmp_path, monkeypatch) -> None:
    db.run(toy, "quick", seeds=1, engine="inline", out=tmp_path)
    before = (tmp_path / "toy-quick.json").read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageFailed, match="No space left"):
        db.run(toy, "quick", engine="inline", out=tmp_path)
    assert (tmp_path / "toy-quick.json").read_text() == before


def test_local_cells_run_in_processes_of_their_own(toy, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TOY_KILL", "multiply, three, seed 0")
    result = db.run(toy, "quick", seeds=1, out=tmp_path)
    assert CALLS == [], "nothing ran in this process"
    assert [(row.method, row.engine) for row in result.rows] == [("add", "local")]
    assert "SIGKILL" in result.failures[0].error
    assert "memory" in result.failures[0].error


def test_killed_within_a_cell_the_run_goes_on_where_it_was(toy, tmp_path) -> None:
    """kill -9 the run while its third cell is in the making, and start it again."""
    script = tmp_path / "go.py"
    script.write_text(
        textwrap.dedent(TOY) + f"\ndb.run('toy', 'quick', engine='inline', out={str(tmp_path)!r})\n"
    )
    environment = {**os.environ, "TOY_SLOW": "add, three, seed 1"}
    child = subprocess.Popen([sys.executable, str(script)], env=environment)
    cells = tmp_path / ".cells" / "toy-quick"
    try:
        wait_for(lambda: len(list(cells.glob("[0-9a-f]*.json"))) == 2)
        time.sleep(0.2)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert not (tmp_path / "toy-quick.json").exists()
    assert len(db.load_results(tmp_path)[0].rows) == 2, "an unfinished run can be looked at"
    result = db.run(toy, "quick", engine="inline", out=tmp_path)
    assert CALLS == ["add, three, seed 1", "multiply, three, seed 1"]
    assert values(result) == EXPECTED


def test_a_worker_does_not_outlive_its_run(toy, tmp_path) -> None:
    request = {
        "cell": toy.cells("quick")[0].to_dict(),
        "place": ["toy", "toy_study_elsewhere", toy.file],
    }
    (tmp_path / "ask").write_text(json.dumps(request))
    command = [sys.executable, "-m", "doorward.benchmarks.worker"]
    child = subprocess.Popen(
        [*command, str(tmp_path / "ask"), str(tmp_path / "answer")],
        stdin=subprocess.PIPE,
        env={**os.environ, "TOY_SLOW": "add, three, seed 0"},
    )
    assert child.stdin is not None
    child.stdin.close()  # what the end of the parent does
    assert child.wait(timeout=60) == 1
    assert not (tmp_path / "answer").exists()


def test_ray_runs_the_same_cells(toy, tmp_path) -> None:
    pytest.importorskip("ray")
    result = db.run(toy, "quick", seeds=1, engine="ray", out=tmp_path)
    assert result.failures == []
    assert values(result) == {("add", 0): 6, ("multiply", 0): 9}
    assert {row.engine for row in result.rows} == {"ray"}


def test_study_names_are_file_names() -> None:
    with pytest.raises(InvalidInput, match="no name for a study"):
        db.study("../x", version=1, title="", question="", grid=lambda t: None, metrics=())  # type: ignore[arg-type,return-value]


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
