import os
import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorward.bundles import convert, load_model, open_model, read_card, read_checkpoint
from doorward.errors import (
    BadFile,
    DoorwardError,
    InvalidInput,
    MissingData,
    ModelUnsuitable,
    UnknownName,
    UnsafeFile,
)
from doorward.models import create

KIND = {"architecture": "resnet8", "classes": ["cat", "dog"], "input_shape": (1, 16, 16)}
KIND["options"] = {"width": 2}
WITNESS = Path("/tmp/doorward-convert-was-here")


@pytest.fixture(scope="module")
def model():
    """A tiny model whose state dict plays the foreign checkpoint."""
    return create("resnet8", classes=2, input_shape=(1, 16, 16), width=2, seed=3).eval()


def renamed(rename):
    return lambda state: OrderedDict((rename(key), value) for key, value in state.items())


def foreign(key):
    """The zoo's names in the common style of others: no "body.", and "fc" for the head."""
    return key.removeprefix("body.").replace("head.", "fc.")


FORMS = {
    "bare": lambda state: state,
    "ordered": OrderedDict,
    "state_dict": lambda state: {"epoch": 3, "state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state, "args": None},
    "net": lambda state: {"net": state, "acc": 93.1},
    "module.": renamed(lambda key: f"module.{key}"),
    "compiled": renamed(lambda key: f"_orig_mod.module.{key}"),
    "foreign names": renamed(foreign),
    "foreign and wrapped": lambda state: {"net": renamed(lambda k: f"module.{foreign(k)}")(state)},
    "before 0.4.1": lambda state: {k: v for k, v in state.items() if "num_batches" not in k},
    "parameters": lambda state: {
        k: torch.nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("zipped", [True, False])
def test_forms_of_checkpoints(model, tmp_path, form, zipped):
    path = tmp_path / "x.pt"
    torch.save(FORMS[form](model.state_dict()), path, _use_new_zipfile_serialization=zipped)
    card = convert(path, tmp_path / "m", mean=[0.3], std=[0.2], licence="MIT", **KIND)
    again = load_model(tmp_path / "m")
    assert (card.mean, card.licence, again.classes) == ((0.3,), "MIT", ("cat", "dog"))
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


def test_entry_and_safetensors(model, tmp_path):
    torch.save({"ema": model.state_dict(), "model": 3}, tmp_path / "x.pt")
    with pytest.raises(BadFile, match=r"its entries are: ema, model.*--entry"):
        convert(tmp_path / "x.pt", tmp_path / "m", **KIND)
    convert(tmp_path / "x.pt", tmp_path / "m", entry="ema", **KIND)
    with pytest.raises(BadFile, match="under 'model'"):
        read_checkpoint(tmp_path / "x.pt", entry="model")
    safetensors.torch.save_file(model.state_dict(), tmp_path / "x.safetensors")
    convert(tmp_path / "x.safetensors", tmp_path / "n", **KIND)
    assert read_card(tmp_path / "m").weights_sha256 == read_card(tmp_path / "n").weights_sha256


FACTORY = """
from torch import nn
def make(width=3):
    return nn.Sequential(nn.Flatten(), nn.Linear(16, width), nn.Linear(width, 2))
"""


def test_factory(tmp_path, monkeypatch):
    (tmp_path / "nets_of_a_stranger.py").write_text(FACTORY)
    monkeypatch.syspath_prepend(str(tmp_path))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 5), torch.nn.Linear(5, 2))
    torch.save(net.state_dict(), tmp_path / "x.pt")
    card = convert(
        tmp_path / "x.pt",
        tmp_path / "m",
        factory="nets_of_a_stranger:make",
        options={"width": 5},
        classes=2,
        input_shape=(1, 4, 4),
    )
    assert (card.factory, card.options) == ("nets_of_a_stranger:make", {"width": 5})
    assert (card.classes, card.input_shape) == (("0", "1"), (1, 4, 4))
    images = torch.rand(3, 1, 4, 4)
    again = open_model(tmp_path / "m", trust_factory=True)
    assert torch.equal(again(images), net(images))
    with pytest.raises(ModelUnsuitable, match=r"1\.weight \(expected 3x16, found 5x16\)"):
        convert(tmp_path / "x.pt", tmp_path / "n", factory="nets_of_a_stranger:make", classes=2)
    with pytest.raises(InvalidInput, match="mean and std"):
        convert(
            tmp_path / "x.pt",
            tmp_path / "n",
            factory="nets_of_a_stranger:make",
            classes=2,
            mean=[0.5],
        )


def test_differences_are_named(model, tmp_path):
    state = dict(model.state_dict())
    state["extra.weight"] = torch.zeros(1)
    del state["head.bias"]
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ModelUnsuitable) as caught:
        convert(tmp_path / "x.pt", tmp_path / "m", **KIND)
    assert "missing: head.bias; unexpected: extra.weight." in str(caught.value)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    with pytest.raises(ModelUnsuitable, match="another shape"):
        convert(tmp_path / "x.pt", tmp_path / "m", **{**KIND, "options": {"width": 4}})
    assert not (tmp_path / "m").exists()


def test_nan_is_refused(model, tmp_path):
    state = {name: value.clone() for name, value in model.state_dict().items()}
    state["head.bias"][0] = float("nan")
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ModelUnsuitable, match=r"head\.bias"):
        convert(tmp_path / "x.pt", tmp_path / "m", **KIND)


class Malice:
    def __reduce__(self):
        return (os.mkdir, (str(WITNESS),))


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy", "module", "inside", "safetensors"])
def test_checkpoints_that_need_code_are_refused(model, tmp_path, form):
    path = tmp_path / ("x.safetensors" if form == "safetensors" else "x.pt")
    if form in ("pickle", "safetensors"):
        path.write_bytes(pickle.dumps(Malice()))
    else:
        content = {"module": model, "inside": {"state_dict": {"a": Malice()}}}.get(form, Malice())
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    with pytest.raises(UnsafeFile) as caught:
        convert(path, tmp_path / "m", **KIND)
    assert 'torch.save(model.state_dict(), "weights.pt")' in str(caught.value)
    assert not WITNESS.exists()
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("content", [[1, 2], 3, None, {}, {"state_dict": {}}, {"a": 1}, {1: {}}])
def test_checkpoints_without_a_state_dict(tmp_path, content):
    torch.save(content, tmp_path / "x.pt")
    with pytest.raises(BadFile, match="no state dict"):
        read_checkpoint(tmp_path / "x.pt")


def test_bad_calls(tmp_path, model):
    with pytest.raises(MissingData):
        convert(tmp_path / "none.pt", tmp_path / "m", **KIND)
    torch.save(model.state_dict(), tmp_path / "x.pt")
    for both in ({}, {"architecture": "resnet8", "factory": "a:b"}):
        with pytest.raises(InvalidInput, match="either an architecture or a factory"):
            convert(tmp_path / "x.pt", tmp_path / "m", classes=2, **both)
    with pytest.raises(UnknownName, match="resnet8"):
        convert(tmp_path / "x.pt", tmp_path / "m", classes=2, architecture="resnet9")
    with pytest.raises(MissingData, match="no module"):
        convert(tmp_path / "x.pt", tmp_path / "m", classes=2, factory="no_such_module_at_all:f")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200))
def test_random_checkpoints(tmp_path, content):
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    with pytest.raises(BadFile):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_checkpoints(tmp_path, zipped):
    path = tmp_path / "x.pt"
    torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
    original = path.read_bytes()

    @settings(deadline=None, max_examples=150)
    @given(place=st.integers(0, len(original) - 1), value=st.integers(0, 255), cut=st.booleans())
    def damage(place, value, cut):
        content = bytearray(original[: place + 1] if cut else original)
        content[place] = value
        path.write_bytes(content)
        try:
            state = read_checkpoint(path)
        except DoorwardError:
            return
        assert all(isinstance(entry, torch.Tensor) for entry in state.values())

    damage()
