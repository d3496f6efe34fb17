"""``doorward steal``: bundles, ONNX files and endpoints as victims; calls that cannot work."""

import pytest
import torch

from doorward.bundles import load_model, open_model
from doorward.models import export_onnx

QUICK = ["--epochs", "1", "--batch-size", "64", "--option", "width=4"]


@pytest.fixture
def refused(doorward):
    """Run a command that must be refused; give its message."""

    def call(*words):
        result = doorward(*words, code=2, parse=False)
        assert result.stderr.count("\n") == 1
        return result.stderr

    return call


def test_a_bundle_is_stolen_with_another_set_and_measured(house, doorward, tmp_path):
    out = tmp_path / "copy.model"
    told = doorward(
        "steal", house / "plain.model", "--pool", "digits", "--budget", 80, "--out", out,
        "--validation", "digits", "--answers", "top-3", *QUICK,
    )  # fmt: skip
    assert (told["queries"], told["answers"], told["method"]) == (80, "top-3", "knockoff-random")
    assert 0 <= told["agreement"] <= 1
    copy = load_model(out)
    assert copy.input_shape == (1, 16, 16)
    assert copy.classes == load_model(house / "plain.model").classes
    said = doorward(
        "steal", house / "plain.model", "--pool", "procedural", "--budget", 30, "--out", out,
        "--checkpoint", tmp_path / "theft", *QUICK, parse=False,
    )  # fmt: skip
    assert "30 of 30 questions asked (soft)" in said.stdout


@pytest.mark.slow
def test_an_onnx_file(house, doorward, tmp_path):
    export_onnx(load_model(house / "plain.model"), tmp_path / "victim.onnx")
    told = doorward(
        "steal", tmp_path / "victim.onnx", "--pool", "procedural", "--budget", 40,
        "--out", tmp_path / "copy.model", *QUICK,
    )  # fmt: skip
    assert told["victim"]["kind"] == "onnx"


def test_an_endpoint_with_labels_only(house, doorward, refused, inference_server, tmp_path):
    model = load_model(house / "plain.model")

    def labels(images):
        with torch.inference_mode():
            return model(images).argmax(1)

    server = inference_server(labels, image_shape=(1, 16, 16))
    call = [
        "steal", f"{server.url}/v2/models/model", "--pool", "procedural", "--budget", 30,
        "--method", "dissector", "--out", tmp_path / "copy.model", *QUICK,
    ]  # fmt: skip
    assert "labels only" in refused(*call)
    assert "Give num_classes" in refused(*call, "--answers", "label")
    told = doorward(*call, "--answers", "label", "--num-classes", 10)
    assert (told["queries"], told["victim"]["kind"]) == (30, "http")


def test_a_victim_and_a_substitute_of_ones_own(doorward, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_nets.py").write_text(
        "from torch import nn\n"
        "def net():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4))\n"
    )
    call = [
        "steal", "own_nets:net", "--pool", "procedural", "--budget", 20, "--epochs", "1",
        "--out", "copy.model", "--model", "own_nets:net", "--num-classes", 4,
    ]  # fmt: skip
    assert "--size and --channels" in refused(*call)
    told = doorward(*call, "--size", 16, "--channels", 3)
    assert told["queries"] == 20
    assert open_model("copy.model", trust_factory=True)[1].out_features == 4


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (["--pool", "cifar10", "--root", "nowhere"], "doorward data fetch cifar10"),
        (["--pool", "cifar11"], "cifar10"),
        (["--method", "nockoff"], "knockoff-random"),
        (["--answers", "loud"], "rounded-2"),
        (["--size", "20"], "16x16"),
        (["--channels", "3"], "16x16"),
        (["--num-classes", "7"], "10 classes"),
        (["--arch", "resnet8", "--model", "torch.nn:Flatten"], "--arch and --model"),
        (["--method", "spsg", "--budget", "9"], "9 questions"),
    ],
)
def test_calls_that_cannot_work(change, words, house, refused, tmp_path):
    call = [
        "steal", house / "plain.model", "--pool", "procedural", "--budget", 40,
        "--out", tmp_path / "copy.model", *QUICK,
    ]  # fmt: skip
    assert words in refused(*call, *change)
    assert not (tmp_path / "copy.model").exists()


def test_a_victim_behind_a_defence(house, doorward, refused, tmp_path):
    call = [
        "steal", house / "plain.model", "--pool", "procedural", "--budget", 30,
        "--out", tmp_path / "copy.model", "--checkpoint", tmp_path / "theft", *QUICK,
    ]  # fmt: skip
    first = doorward(*call, "--defence", "dawn")
    assert first["victim"]["defence"]["name"] == "dawn"
    assert doorward(*call, "--defence", "dawn")["queries"] == 30  # the same secret: resumed
    assert "another victim" in refused(*call)
    assert "no defence against model stealing" in refused(*call, "--defence", "moat")
