"""Killed runs end with bitwise the same weights (see killed_runs.py), and checkpoints are whole."""

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from doorward.data import ImageData
from doorward.errors import BadFile, InvalidInput, MissingData, StorageFailed
from doorward.training import CrossEntropy, Recipe, fit
from doorward.training.checkpoints import has_checkpoint, read_checkpoint, write_checkpoint

DEFAULT = ("sgd-ema-every-step", "adamw-cosine-ema")
SLOW = ("sgd-onecycle", "adam-step-clip", "frozen-contiguous", "bf16-fraction-of-epochs")


def run_and_kill(cases, folder):
    script = Path(__file__).with_name("killed_runs.py")
    done = subprocess.run(
        [sys.executable, script, folder, *cases],
        capture_output=True, text=True, timeout=250,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {report["case"]: report for report in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    return run_and_kill(DEFAULT, tmp_path_factory.mktemp("killed"))


@pytest.mark.parametrize("case", DEFAULT)
def test_killed_at_steps_the_weights_are_bitwise_those_of_a_whole_run(killed, case):
    check_report(killed[case])


@pytest.mark.slow
@pytest.mark.parametrize("case", SLOW)
def test_killed_at_steps_under_other_recipes(case, tmp_path):
    check_report(run_and_kill([case], tmp_path)[case])


def check_report(report):
    assert report["kills"] == 4
    assert report["finished"]
    assert report["resumed_from"] > 0
    assert report["same"]
    assert report["repeat_is_free"]  # a finished run does no step again


def test_killed_at_any_moment(killed):
    report = killed["adamw-cosine-ema-any-moment"]
    assert report["kills"] >= 2
    assert report["same"]


def test_killed_while_files_are_put_in_place(killed):
    report = killed["sgd-ema-every-step-while-writing"]
    assert report["kills"] >= 8
    assert report["finished"]
    assert report["same"]
    assert report["left"] == ["checkpoint.json", "state"]  # no debris


def source_of(n=32, name="noise", seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (n, 1, 4, 4), dtype=torch.uint8, generator=generator)
    return ImageData(images, torch.arange(n) % 2, ("a", "b"), name)


def linear(classes=2):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, classes))


RECIPE = Recipe(epochs=2, batch_size=8, lr=0.1)


class Other(CrossEntropy):
    pass


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"recipe": Recipe(epochs=2, batch_size=8, lr=0.2)}, "lr: 0.1 then, 0.2 now"),
        ({"source": source_of(seed=1)}, "another data"),
        ({"source": source_of(name="other")}, "another data"),
        ({"model": linear(3)}, "another model"),
        ({"objective": Other()}, "another objective"),
        ({"objective": CrossEntropy(0.1)}, "another objective"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, change, said):
    call = {"model": linear(), "objective": None, "source": source_of(), "recipe": RECIPE}
    fit(**call, checkpoint=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InvalidInput, match=said) as caught:
        fit(**{**call, **change}, checkpoint=tmp_path)
    assert "resume=False" in str(caught.value)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    result = fit(**{**call, **change}, checkpoint=tmp_path, resume=False)
    assert result.resumed_from == 0


def test_a_finished_run_is_read_not_repeated(tmp_path):
    first, second = linear(), linear()
    done = fit(first, None, source_of(), RECIPE, checkpoint=tmp_path)
    entries = []
    again = fit(second, None, source_of(), RECIPE, checkpoint=tmp_path, on_epoch=entries.append)
    assert again == done
    assert entries == []
    torch.testing.assert_close(first.state_dict(), second.state_dict(), rtol=0, atol=0)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(state=st.dictionaries(st.text(max_size=5), TREES, max_size=3))
def test_any_tree_of_values_survives(tmp_path_factory, state):
    folder = tmp_path_factory.mktemp("tree")
    write_checkpoint(folder, {"step": 1}, state)
    assert read_checkpoint(folder)[1] == state


def test_tensors_of_all_sorts_survive(tmp_path):
    shared = torch.arange(6.0).view(2, 3)
    state = {
        "a/b": {"c": shared}, "a": {"b/c": shared.t()}, "tied": [shared, shared],
        "half": torch.ones(2, dtype=torch.bfloat16), "empty": torch.zeros(0, 3),
        "number": torch.tensor(7),
        "last": torch.ones(1, 3, 2, 2).to(memory_format=torch.channels_last),
    }  # fmt: skip
    write_checkpoint(tmp_path, {}, state)
    torch.testing.assert_close(read_checkpoint(tmp_path)[1], state, rtol=0, atol=0)


@pytest.mark.parametrize("state", [{"x": {1: 2}}, {"x": object()}, {"x": {2.0}}])
def test_states_that_cannot_be_kept_are_refused(tmp_path, state):
    with pytest.raises(InvalidInput, match="x"):
        write_checkpoint(tmp_path, {}, state)
    assert not has_checkpoint(tmp_path)


@pytest.mark.parametrize("name", ["checkpoint.json", "state"])
def test_truncated_files_are_bad_files(tmp_path, name):
    call = {"model": linear(), "objective": None, "source": source_of(), "recipe": RECIPE}
    fit(**call, checkpoint=tmp_path)
    (path,) = tmp_path.glob(f"{name}*")
    content = path.read_bytes()
    for kept in (0, 1, 7, 8, 9, len(content) // 2, len(content) - 3):
        path.write_bytes(content[:kept])
        with pytest.raises(BadFile):
            fit(**call, checkpoint=tmp_path)
    path.unlink()
    if name == "state":
        with pytest.raises(BadFile):
            fit(**call, checkpoint=tmp_path)
    else:
        with pytest.raises(MissingData):
            read_checkpoint(tmp_path)


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_header_is_a_checkpoint_or_a_bad_file(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "checkpoint.json").write_bytes(content)
    with pytest.raises(BadFile):
        read_checkpoint(folder)


@pytest.mark.parametrize(
    "damage",
    [
        {"layout": {"dict": {"model": {"tensor": "nowhere"}}}}, {"layout": 3}, {"layout": {"x": 1}},
        {"layout": {"dict": {}}}, {"layout": {"dict": {"model": {"dict": {}}}}}, {"state": "../x"},
        {"ledger": None}, {"sums": 3}, {"result": {"steps": 1}},
    ],
)  # fmt: skip
def test_damaged_headers_are_clear_errors(tmp_path, damage):
    call = {"model": linear(), "objective": None, "source": source_of(), "recipe": RECIPE}
    fit(**call, checkpoint=tmp_path)
    header = json.loads((tmp_path / "checkpoint.json").read_text())
    (tmp_path / "checkpoint.json").write_text(json.dumps({**header, **damage}))
    with pytest.raises((BadFile, InvalidInput)):
        fit(**call, checkpoint=tmp_path)


def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    write_checkpoint(tmp_path, {"step": 1}, {"model": torch.ones(10)})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # files can grow no further
    try:
        with pytest.raises(StorageFailed, match="run the same command again"):
            write_checkpoint(tmp_path, {"step": 2}, {"model": torch.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert read_checkpoint(tmp_path)[0]["step"] == 1


def test_a_disk_that_fills_up_between_the_files_leaves_the_previous_checkpoint(
    tmp_path, monkeypatch
):
    write_checkpoint(tmp_path, {"step": 1}, {"model": torch.ones(10)})
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}

    def full(*_, **__):
        raise StorageFailed("no space left on device")

    monkeypatch.setattr("doorward.training.checkpoints.write_json", full)
    with pytest.raises(StorageFailed):
        write_checkpoint(tmp_path, {"step": 2}, {"model": torch.zeros(10)})
    assert before == {path: path.read_bytes() for path in tmp_path.iterdir()}


def test_a_folder_that_cannot_be_made_is_said_before_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageFailed, match="cannot be made"):
        fit(linear(), None, source_of(), RECIPE, checkpoint=tmp_path / "file" / "run")


def test_checkpoints_hold_no_pickle(tmp_path):
    fit(linear(), None, source_of(), RECIPE, checkpoint=tmp_path, checkpoint_every=1)
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".safetensors"]
