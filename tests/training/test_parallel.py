"""Two processes over gloo, started as a script would be, against one."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("parallel_script.py")


def run(*command, timeout=120):
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "WORLD_SIZE", "RANK")}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, timeout=timeout, env={**clean, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder with what two processes, and this one alone, made of the same runs."""
    root = tmp_path_factory.mktemp("parallel")
    done = run(SCRIPT, 2, root / "2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    script = runpy.run_path(str(SCRIPT))
    for policy in ("train", "clean-only"):
        script["work"](1, policy, root / "1" / policy)
    return root


@pytest.mark.parametrize("policy", ["train", "clean-only"])
def test_two_processes_train_the_same_model_as_one(trained, policy):
    weights, reports = [], []
    for processes in (1, 2):
        folder = trained / str(processes) / policy
        weights.append(load_file(folder / "weights.safetensors"))
        reports.append(json.loads((folder / "result.json").read_text()))
    for name, tensor in weights[0].items():
        assert (tensor - weights[1][name]).abs().max() < 1e-5, name
    alone, together = (report["first"] for report in reports)
    assert (alone["processes"], together["processes"]) == (1, 2)
    for ours, theirs in zip(alone["history"], together["history"], strict=True):
        assert list(ours) == list(theirs)
        for name in set(ours) - {"seconds"}:
            assert ours[name] == pytest.approx(theirs[name], abs=1e-5)


def test_a_program_that_is_no_file_cannot_be_started_twice():
    program = (
        "import torch; from torch import nn; from doorward.data import load\n"
        "from doorward.training import fit, Recipe\n"
        "fit(nn.Sequential(nn.Flatten(), nn.Linear(1024, 10)), None, load('digits'), Recipe(),"
        " device='cpu', devices=2)"
    )
    done = run("-c", program)
    assert done.returncode != 0
    assert "Save it as a script" in done.stderr
