"""Bad input through the command line: exit code 2, one paragraph, nothing half-written."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from doorward.bundles import load_model, save_model
from doorward.errors import ModelUnsuitable

EVAL = ["--data", "digits", "--size", "16"]
DIGITS = [*EVAL, "--option", "width=4", "--batch-size", "128", "--epochs", "1"]


@pytest.fixture
def refused(doorward):
    """Run a command that must be refused; give its message."""

    def call(*words):
        result = doorward(*words, code=2, parse=False)
        assert result.stdout == ""
        assert result.stderr.startswith("error: ")
        assert "Traceback" not in result.stderr
        assert result.stderr.count("\n") == 1
        return result.stderr

    return call


def _copy(house, tmp_path):
    import shutil

    return shutil.copytree(house / "plain.model", tmp_path / "copy.model")


def test_wrong_image_size(house, refused):
    said = refused("eval", house / "plain.model", "--data", "digits")
    assert "(1, 16, 16)" in said or "16" in said


def test_wrong_channels(house, refused):
    refused("eval", house / "plain.model", *EVAL, "--channels", "3")


def test_missing_data(refused, tmp_path):
    said = refused("train", "--data", "cifar10", "--root", tmp_path, "--out", tmp_path / "x.model")
    assert "doorward data fetch cifar10" in said
    assert not (tmp_path / "x.model").exists()


def test_unknown_data_set_lists_the_known(refused, tmp_path):
    said = refused("train", "--data", "cifar11", "--out", tmp_path / "x.model")
    assert "cifar10" in said


def test_unknown_architecture_lists_the_known(refused, tmp_path):
    said = refused("train", *EVAL, "--arch", "resnet9", "--out", tmp_path / "x.model")
    assert "resnet8" in said


def test_unknown_option_of_the_architecture(refused, tmp_path):
    said = refused("train", *EVAL, "--option", "depth=3", "--out", tmp_path / "x.model")
    assert "width" in said


@pytest.mark.parametrize(
    "words",
    [["--lr", "-1"], ["--epochs", "0"], ["--batch-size", "0"], ["--precision", "fp8"],
     ["--device", "quantum"], ["--option", "width"], ["--arch", "resnet8", "--model", "a:b"],
     ["--model", "no_such_module:make"]],
    ids=lambda words: " ".join(words),
)  # fmt: skip
def test_values_out_of_range(words, refused, tmp_path):
    refused("train", *EVAL, *words, "--out", tmp_path / "x.model")
    assert not (tmp_path / "x.model").exists()


def test_corrupt_image_names_the_file(refused, tmp_path):
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(5):
            Image.new("RGB", (16, 16)).save(tmp_path / "photos" / label / f"{number}.png")
    bad = tmp_path / "photos" / "dog" / "3.png"
    bad.write_bytes(bad.read_bytes()[:30])
    said = refused("train", "--data", tmp_path / "photos", "--out", tmp_path / "x.model")
    assert "3.png" in said


def test_corrupt_data_set(refused, tmp_path):
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in ("batches.meta", "test_batch", *(f"data_batch_{k}" for k in range(1, 6))):
        (folder / name).write_bytes(b"\x80\x04 not a batch")
    refused("train", "--data", "cifar10", "--root", tmp_path, "--out", tmp_path / "x.model")


def test_label_out_of_range(refused, tmp_path):
    said = refused("poison", *EVAL, "--target", "10", "--out", tmp_path / "x.model")
    assert "10" in said


def test_nan_weights(house, refused, tmp_path):
    folder = _copy(house, tmp_path)
    weights = load_file(folder / "model.safetensors")
    weights["head.bias"][0] = float("nan")
    save_file(weights, folder / "model.safetensors")
    refused("eval", folder, *EVAL)
    model = load_model(house / "plain.model")
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(ModelUnsuitable):
        save_model(model, tmp_path / "nan.model")


def test_truncated_weights(house, refused, tmp_path):
    folder = _copy(house, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    assert "model.safetensors" in refused("eval", folder, *EVAL)


def test_pickle_is_refused_with_the_remedy(refused, tmp_path):
    torch.save({}, tmp_path / "weights.pt")
    assert "doorward convert" in refused("eval", tmp_path / "weights.pt", *EVAL)


def test_a_folder_that_is_no_bundle_is_not_overwritten(refused, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("precious")
    refused("train", *DIGITS, "--out", tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "precious"


def test_wrong_passphrase(house, refused, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("staple\n")
    said = refused(
        "sign", house / "plain.model", "--identity", house / "ada.key", "--passphrase-file", wrong
    )
    assert "passphrase" in said
    assert "staple" not in said


def test_no_passphrase_and_nobody_to_ask(house):
    done = _run(["sign", house / "plain.model", "--identity", house / "ada.key"])
    assert done.returncode == 2
    assert "DOORWARD_PASSPHRASE" in done.stderr


def test_full_disk_leaves_nothing(house, tmp_path):
    # A limit on the size of files stands in for a full disk: writing the weights fails half-way.
    out = tmp_path / "x.model"
    done = _run(["train", *DIGITS, "--out", out], file_limit=20_000)
    assert done.returncode == 2, done.stderr
    assert "could not be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place_is_noticed_before_training(refused, tmp_path):
    (tmp_path / "file").write_text("")
    refused("train", *DIGITS, "--epochs", "100000", "--out", tmp_path / "file" / "x.model")


@pytest.mark.parametrize("checkpoint", [False, True])
def test_ctrl_c_in_training(tmp_path, checkpoint):
    words = ["train", *DIGITS, "--epochs", "100000", "--out", tmp_path / "x.model"]
    words += ["--checkpoint", tmp_path / "run"] if checkpoint else []
    process = subprocess.Popen(
        [sys.executable, "-m", "doorward", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=_environment(),
    )  # fmt: skip
    try:
        _wait_for_training(process, tmp_path / "run" if checkpoint else None)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 2, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    assert "error: " in stderr
    assert not (tmp_path / "x.model").exists()
    if checkpoint:
        assert str(tmp_path / "run") in stderr.replace("\n", "")
    else:
        assert list(tmp_path.iterdir()) == []


def _wait_for_training(process, folder: Path | None) -> None:
    """Until the training loop runs, and its first checkpoint is there if it writes any."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        saved = folder is None or (folder.is_dir() and any(folder.iterdir()))
        if saved and _in_the_loop(process.pid):
            break
        time.sleep(0.1)
    time.sleep(0.3)


def _in_the_loop(pid: int) -> bool:
    """Whether SIGTERM is caught too, which only the training loop does."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def _environment():
    kept = {name: value for name, value in os.environ.items() if name != "DOORWARD_PASSPHRASE"}
    return {**kept, "OMP_NUM_THREADS": "1"}


def _run(words, *, file_limit: int | None = None):
    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))

    return subprocess.run(
        [sys.executable, "-m", "doorward", *map(str, words)],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
        env=_environment(), preexec_fn=limit if file_limit else None, timeout=120,
    )  # fmt: skip
