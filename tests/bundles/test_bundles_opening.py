import re

import pytest
import safetensors.torch
import torch

from doorward.bundles import load_model, open_black_box, open_model, save_model
from doorward.errors import (
    BadFile,
    DoorwardError,
    InvalidInput,
    MissingData,
    ModelUnsuitable,
    UnsafeFile,
)
from doorward.models import HttpBox, ModuleBox, OnnxBox, create

FACTORY = """
from torch import nn
from pathlib import Path
Path(__file__).with_suffix(".imported").touch()
def make():
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with one bundle, one foreign bundle, a factory file and weights for it."""
    place = tmp_path_factory.mktemp("opening")
    save_model(create("resnet8", classes=2, input_shape=(1, 16, 16), width=2), place / "zoo")
    (place / "net.py").write_text(FACTORY)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 2))
    factory = f"{place / 'net.py'}:make"
    save_model(net, place / "foreign", factory=factory, classes=["a", "b"], input_shape=(1, 4, 4))
    safetensors.torch.save_file(net.state_dict(), place / "net.safetensors")
    torch.save(net.state_dict(), place / "net.pt")
    return place


def test_bundle(place):
    model = open_model(place / "zoo")
    assert torch.equal(model.head.weight, load_model(str(place / "zoo")).head.weight)
    assert isinstance(open_black_box(place / "zoo"), ModuleBox)


def test_foreign_bundle_is_imported_only_when_trusted(place):
    marker = place / "net.imported"
    marker.unlink(missing_ok=True)
    for opener in (open_model, open_black_box):
        with pytest.raises(UnsafeFile, match="trust_factory=True"):
            opener(place / "foreign")
    assert not marker.exists()
    model = open_model(place / "foreign", trust_factory=True)
    assert marker.exists()
    assert not model.training
    stored = safetensors.torch.load_file(place / "net.safetensors")
    assert torch.equal(model[1].weight, stored["1.weight"])


def test_factory_with_and_without_weights(place):
    fresh = open_model(f"{place / 'net.py'}:make")
    filled = open_model(f"{place / 'net.py'}:make={place / 'net.safetensors'}")
    stored = safetensors.torch.load_file(place / "net.safetensors")
    assert torch.equal(filled[1].weight, stored["1.weight"])
    assert not torch.equal(fresh[1].weight, stored["1.weight"])
    images = torch.rand(3, 1, 4, 4)
    answers = open_black_box(f"{place / 'net.py'}:make={place / 'net.safetensors'}").labels(images)
    assert torch.equal(answers, filled(images).argmax(1))


def test_factory_with_bad_weights(place):
    factory = f"{place / 'net.py'}:make"
    with pytest.raises(UnsafeFile, match="doorward convert"):
        open_model(f"{factory}={place / 'net.pt'}")
    with pytest.raises(MissingData):
        open_model(f"{factory}={place / 'none.safetensors'}")
    with pytest.raises(ModelUnsuitable, match=r"missing: 1\.weight"):
        open_model(f"{factory}={place / 'zoo' / 'model.safetensors'}")
    (place / "bad.safetensors").write_bytes(b"x" * 20)
    with pytest.raises(BadFile):
        open_model(f"{factory}={place / 'bad.safetensors'}")


def test_pickles_are_refused_with_the_command(place):
    for opener in (open_model, open_black_box):
        with pytest.raises(UnsafeFile, match=re.escape(f"doorward convert {place / 'net.pt'} ")):
            opener(place / "net.pt")


def test_bare_weights(place):
    with pytest.raises(InvalidInput, match=r"package\.module:factory="):
        open_model(place / "net.safetensors")


def test_things_that_only_answer(place):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Flatten", ["images"], ["logits"])],
        "two pixels",
        [value("images", onnx.TensorProto.FLOAT, ["n", 1, 1, 2])],
        [value("logits", onnx.TensorProto.FLOAT, ["n", 2])],
    )
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=9), place / "net.onnx")
    box = open_black_box(place / "net.onnx")
    assert isinstance(box, OnnxBox)
    images = torch.tensor([[0.1, 0.9], [0.8, 0.2]]).view(2, 1, 1, 2)
    assert box.labels(images).tolist() == [1, 0]
    with pytest.raises(InvalidInput, match="only answers"):
        open_model(place / "net.onnx")
    with pytest.raises(InvalidInput, match="only answers"):
        open_model("https://example.org/v2/models/net")


def test_addresses_and_objects():
    assert isinstance(open_black_box("http://127.0.0.1:9/v2/models/net"), HttpBox)
    model = torch.nn.Flatten()
    assert isinstance(open_black_box(model), ModuleBox)
    labels = open_black_box(lambda images: torch.zeros(len(images), dtype=torch.int64)).labels(
        torch.rand(2, 1, 4, 4)
    )
    assert labels.tolist() == [0, 0]


@pytest.mark.parametrize(
    "target", ["", "none", "no.such.module:make", "os:nothing", "a\0b", "x" * 5000, ":", "a:", "/"]
)
def test_nonsense(target):
    for opener in (open_model, open_black_box):
        with pytest.raises(DoorwardError):
            opener(target)
