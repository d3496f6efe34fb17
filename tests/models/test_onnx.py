"""ONNX: out, back in as a black box, and files that are none."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor, nn

from doorward.errors import BadFile, InvalidInput, MissingData, MissingDependency, ModelUnsuitable
from doorward.models import ARCHITECTURES, ModuleBox, OnnxBox, as_black_box, create, export_onnx


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return create("resnet8", classes=4, input_shape=(1, 16, 16), width=4, mean=(0.3,))


@pytest.fixture(scope="module")
def path(model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    model.train()
    facts = export_onnx(model, path)
    assert model.training
    assert facts["max_difference"] < 1e-4
    assert (facts["bytes"], facts["opset"]) == (path.stat().st_size, 18)
    assert [item.name for item in path.parent.iterdir()] == ["model.onnx"]  # one file, no leftovers
    return path


def test_the_file_answers_as_the_module_at_any_batch_size(model: nn.Module, path: Path) -> None:
    images = torch.rand(7, 1, 16, 16)
    box = as_black_box(str(path))
    assert isinstance(box, OnnxBox)
    assert box.num_classes == 4
    assert torch.equal(box.labels(images), ModuleBox(model).labels(images))
    assert torch.equal(OnnxBox(path, batch_size=2).labels(images), box.labels(images))
    chances = ModuleBox(model).probabilities(images)
    assert torch.allclose(box.probabilities(images), chances, atol=1e-5)
    assert torch.allclose(OnnxBox(path, batch_size=2).probabilities(images), chances, atol=1e-5)
    assert box.probabilities(images[:0]).shape == (0, 4)
    assert box.input_shape == (1, 16, 16)
    assert box.labels(images[:0]).shape == (0,)
    assert box.describe() == {"kind": "onnx", "file": "model.onnx", "input_shape": [1, 16, 16]}


def test_the_graph_is_valid_and_named(path: Path) -> None:
    graph = onnx.load(path)
    onnx.checker.check_model(graph, full_check=True)
    assert [item.name for item in graph.graph.input] == ["images"]
    assert [item.name for item in graph.graph.output] == ["logits"]
    assert graph.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert graph.opset_import[0].version == 18


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "wrn-28-10"])
def test_other_families_export(name: str, tmp_path: Path) -> None:
    facts = export_onnx(create(name, classes=3, input_shape=(3, 17, 17)), tmp_path / "m.onnx")
    assert facts["max_difference"] < 1e-2


def test_images_that_do_not_fit(path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"takes \(N, 1, 16, 16\)"):
        OnnxBox(path).labels(torch.rand(2, 3, 16, 16))
    with pytest.raises(InvalidInput, match="span"):
        OnnxBox(path).labels(torch.rand(2, 1, 16, 16) + 1)
    with pytest.raises(InvalidInput, match="batch_size"):
        OnnxBox(path, batch_size=0)


def test_files_that_are_no_models(path: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingData, match="no file"):
        OnnxBox(tmp_path / "none.onnx")
    for content in (b"", b"garbage", path.read_bytes()[:1000]):
        (tmp_path / "bad.onnx").write_bytes(content)
        with pytest.raises(BadFile, match=r"bad\.onnx"):
            OnnxBox(tmp_path / "bad.onnx")


def _small_graph(path: Path, batch: int | str, kind: int, rank: int = 4) -> None:
    """labels = ArgMax over the flattened image."""
    shape = [batch, 1, 2, 2][:rank]
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Flatten", ["x"], ["flat"], axis=1),
            onnx.helper.make_node("ArgMax", ["flat"], ["y"], axis=1, keepdims=0),
        ],
        "argmax",
        [onnx.helper.make_tensor_value_info("x", kind, shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.INT64, [batch])],
    )
    operators = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=operators, ir_version=9), path)


@pytest.mark.parametrize("batch", ["n", 1, 3])
def test_foreign_files_with_labels_and_fixed_batches(batch: int | str, tmp_path: Path) -> None:
    _small_graph(tmp_path / "f.onnx", batch, onnx.TensorProto.FLOAT)
    box = OnnxBox(tmp_path / "f.onnx")
    images = torch.rand(7, 1, 2, 2)
    assert torch.equal(box.labels(images), images.flatten(1).argmax(1))
    assert box.num_classes is None


def test_foreign_files_with_other_inputs(tmp_path: Path) -> None:
    _small_graph(tmp_path / "f.onnx", "n", onnx.TensorProto.FLOAT, rank=2)
    with pytest.raises(BadFile, match="one float32 input"):
        OnnxBox(tmp_path / "f.onnx")
    _small_graph(tmp_path / "f.onnx", "n", onnx.TensorProto.DOUBLE)
    with pytest.raises(BadFile, match="one float32 input"):
        OnnxBox(tmp_path / "f.onnx")


class Untraceable(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        if images.sum() > 3:
            return images.flatten(1)
        return images.flatten(1) + 1


class Lossy(nn.Module):
    """Answers differently each time, so the file cannot agree with it."""

    calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        return images.flatten(1) + self.calls


def test_models_that_cannot_be_exported_leave_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(ModelUnsuitable, match="cannot be exported"):
        export_onnx(Untraceable(), path, (1, 2, 2))
    with pytest.raises(ModelUnsuitable, match="differ from PyTorch's"):
        export_onnx(Lossy(), path, (1, 2, 2))
    with pytest.raises(InvalidInput, match="Give input_shape"):
        export_onnx(nn.Identity(), path)
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("m.onnx", b"old")]


def test_without_the_extra(path: Path, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install 'doorward\[onnx\]'"):
        OnnxBox(path)
    with pytest.raises(MissingDependency, match="onnx"):
        export_onnx(model, path)
