import errno
import json
import os
import pickle
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorward.bundles.card import ModelCard, read_card
from doorward.bundles.loading import digest, load_model, load_module, read_evidence
from doorward.bundles.saving import save_model
from doorward.bundles.weights import is_pickle, read_shapes, read_weights
from doorward.errors import (
    BadFile,
    DoorwardError,
    IntegrityError,
    InvalidInput,
    MissingData,
    ModelUnsuitable,
    StorageFailed,
    UnknownName,
    UnsafeFile,
)
from doorward.models import ARCHITECTURES, create, load_factory

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
LARGE = {"densenet121", "wrn-28-10", "resnet34"}
TINY = {"classes": ["cat", "dog"], "input_shape": (1, 16, 16), "width": 2}


@pytest.fixture(scope="module")
def master(tmp_path_factory):
    """One bundle with evidence, copied for each test."""
    folder = tmp_path_factory.mktemp("master") / "tiny.model"
    save_model(
        create("resnet8", mean=[0.1], std=[0.2], **TINY),
        folder,
        recipe_digest="ab" * 32,
        metrics={"accuracy": 0.5, "epochs": 3, "note": "x", "robust": True, "none": None},
        licence="Apache-2.0",
        evidence={"claim.json": {"n": 1}, "root.bin": b"\0\1"},
    )
    return folder


@pytest.fixture
def folder(master, tmp_path):
    """A copy of the bundle that the test may break."""
    return Path(shutil.copytree(master, tmp_path / "tiny.model"))


def edit(folder, **changes):
    """Change fields of the card on disk."""
    path = folder / "model.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def stored(folder):
    """A copy of the weights on disk."""
    weights = read_weights(folder / "model.safetensors")
    return {name: value.clone() for name, value in weights.items()}


def store(folder, weights):
    """Replace the weights, and the card's digest of them, as an honest writer would."""
    import hashlib

    path = folder / "model.safetensors"
    safetensors.torch.save_file(weights, path)
    content = path.read_bytes()
    edit(folder, weights_sha256=hashlib.sha256(content).hexdigest(), weights_bytes=len(content))


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in ARCHITECTURES
    ],
)
def test_every_architecture_comes_back_the_same(architecture, tmp_path):
    model = create(architecture, classes=3, input_shape=(1, 16, 16), seed=1).eval()
    for module in model.modules():  # statistics that differ from those of a new model
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
    save_model(model, tmp_path / "m")
    state = torch.random.get_rng_state()
    again = load_model(tmp_path / "m")
    assert torch.equal(state, torch.random.get_rng_state())
    assert not again.training
    assert all(parameter.requires_grad for parameter in again.parameters())
    # parameters and all buffers, also those that are not in the state dict
    expected = dict([*model.named_parameters(), *model.named_buffers()])
    found = dict([*again.named_parameters(), *again.named_buffers()])
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_loaded_model_answers_as_the_saved_one(tmp_path):
    model = create("resnet8", **TINY).eval()
    save_model(model, tmp_path / "m")
    images = torch.rand(4, 1, 16, 16)
    assert torch.equal(load_model(tmp_path / "m")(images), model(images))


def test_card(master):
    card = read_card(master)
    assert (card.architecture, card.options, card.classes) == (
        "resnet8",
        {"width": 2},
        ("cat", "dog"),
    )
    assert (card.input_shape, card.mean, card.std) == ((1, 16, 16), (0.1,), (0.2,))
    assert card.metrics == {
        "accuracy": 0.5, "epochs": 3, "note": "x", "robust": True, "none": None,
    }  # fmt: skip
    assert type(card.metrics["epochs"]) is int
    assert load_model(master).mean == (0.1,)
    assert json.loads(read_evidence(master, "claim.json")) == {"n": 1}
    assert read_evidence(master, "root.bin") == b"\0\1"
    with pytest.raises(MissingData, match=r"claim\.json, root\.bin"):
        read_evidence(master, "other")


def test_digest_names_content_only(folder, master, tmp_path):
    expected = digest(master)
    (folder / "README.md").write_text("hello")
    (folder / "model.json").write_text(json.dumps(json.loads((folder / "model.json").read_text())))
    assert digest(folder) == expected == read_card(folder).digest()
    twin = create("resnet8", **TINY)
    assert save_model(twin, tmp_path / "a").digest() == save_model(twin, tmp_path / "b").digest()
    edit(folder, licence="MIT")
    assert digest(folder) != expected


def test_saving_again_replaces_the_folder_whole(folder):
    save_model(create("resnet8", seed=5, **TINY), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_the_model_does_not_depend_on_the_file_any_more(folder):
    model = load_model(folder)
    before = model.head.weight.clone()
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.truncate(0)
    assert torch.equal(model.head.weight, before)


def test_half_precision_weights_are_read_as_the_model_computes(folder):
    weights = {
        name: value.half() if value.is_floating_point() else value
        for name, value in read_weights(folder / "model.safetensors").items()
    }
    store(folder, weights)
    assert load_model(folder).head.weight.dtype == torch.float32


# --- what cannot be saved ---------------------------------------------------------------------


def test_nan_weights_are_not_saved(tmp_path):
    model = create("resnet8", **TINY)
    with torch.no_grad():
        model.head.bias[0] = float("nan")
    with pytest.raises(ModelUnsuitable, match=r"head\.bias"):
        save_model(model, tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_model_that_could_not_be_loaded_again_is_not_saved(tmp_path):
    model = create("resnet8", **TINY)
    model.head = torch.nn.Linear(3, 2)
    with pytest.raises(ModelUnsuitable, match=r"head\.weight"):
        save_model(model, tmp_path / "m")
    model.architecture = "custom"
    with pytest.raises(ModelUnsuitable, match="custom"):
        save_model(model, tmp_path / "m")
    with pytest.raises(ModelUnsuitable, match="not a model of the zoo"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "m")
    with pytest.raises(InvalidInput, match="classes and input_shape"):
        save_model(torch.nn.Linear(2, 2), tmp_path / "m", factory="a:b")


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".", "..", ".hidden", "a\0b", "x" * 200, "ü", "/etc/passwd", "a\n"]
)
def test_evidence_names_cannot_leave_the_folder(name, tmp_path, folder):
    with pytest.raises(InvalidInput, match="plain file name"):
        save_model(create("resnet8", **TINY), tmp_path / "m", evidence={name: b""})
    edit(folder, evidence={name: "0" * 64})
    with pytest.raises(BadFile, match="plain file name"):
        load_model(folder)
    with pytest.raises(DoorwardError):
        read_evidence(folder, name)


@pytest.mark.parametrize(
    "bad",
    [
        {"evidence": {"a.txt": b"", "A.TXT": b""}},
        {"evidence": {"a": {"x": float("nan")}}},
        {"metrics": {"loss": float("inf")}},
        {"metrics": {"x": object()}},
        {"metrics": {"x": "\ud800"}},
        {"recipe_digest": "abc"},
        {"licence": ""},
    ],
)
def test_bad_fields(bad, tmp_path):
    with pytest.raises(InvalidInput):
        save_model(create("resnet8", **TINY), tmp_path / "m", **bad)
    assert not list(tmp_path.iterdir())


def test_other_things_are_not_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.png").write_bytes(b"x")
    (tmp_path / "file").write_bytes(b"x")
    for place in ("photos", "file"):
        with pytest.raises(InvalidInput, match="not a model bundle"):
            save_model(create("resnet8", **TINY), tmp_path / place)
    assert (tmp_path / "photos" / "cat.png").read_bytes() == b"x"


def test_a_foreign_model_json_does_not_make_a_folder_ours(tmp_path):
    """Other programs write a model.json, too; their folder must not vanish."""
    folder = tmp_path / "web"
    folder.mkdir()
    (folder / "model.json").write_text('{"format": "layers-model"}')
    with pytest.raises(InvalidInput, match="not a model bundle"):
        save_model(create("resnet8", **TINY), folder)
    assert [path.name for path in folder.iterdir()] == ["model.json"]


def test_files_beside_a_bundle_are_not_deleted_with_it(tmp_path):
    folder = tmp_path / "m"
    save_model(create("resnet8", **TINY), folder, evidence={"a": b"1"})
    (folder / "model.sig").write_text("{}")
    save_model(create("resnet8", **TINY), folder)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]
    (folder / "thesis.txt").write_text("years of work")
    with pytest.raises(InvalidInput, match=r"thesis\.txt"):
        save_model(create("resnet8", **TINY), folder)
    assert (folder / "thesis.txt").is_file()


def test_tied_weights_of_a_foreign_module_stay_tied(tmp_path):
    (tmp_path / "tied_net.py").write_text(
        "from torch import nn\n"
        "def make():\n"
        "    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 4), nn.Linear(4, 4))\n"
        "    net[2].weight = net[1].weight\n"
        "    return net\n"
    )
    factory = f"{tmp_path / 'tied_net.py'}:make"
    net = load_factory(factory)
    save_model(net, tmp_path / "m", factory=factory, classes=list("abcd"), input_shape=(1, 2, 2))
    again = load_module(tmp_path / "m", trust_factory=True)
    assert again[1].weight is again[2].weight
    assert torch.equal(again[1].weight, net[1].weight)


def test_a_card_that_asks_for_a_billion_layers_is_refused(tmp_path):
    folder = tmp_path / "m"
    save_model(create("vit-tiny", classes=2, width=12, depth=1), folder)
    card = json.loads((folder / "model.json").read_text())
    card["options"]["depth"] = 10**9
    (folder / "model.json").write_text(json.dumps(card))
    with pytest.raises(BadFile, match="depth"):
        load_model(folder)


# --- full disks -------------------------------------------------------------------------------


@pytest.mark.parametrize("victim", ["write_weights", "write_json", "sha256_file"])
def test_full_disk_leaves_the_old_bundle(victim, folder, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = digest(folder)
    monkeypatch.setattr(f"doorward.bundles.saving.{victim}", fail)
    with pytest.raises(StorageFailed, match=r"No space left.*nothing was left half-written"):
        save_model(create("resnet8", seed=7, **TINY), folder)
    monkeypatch.undo()
    assert digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_real_write_failure_of_the_safetensors_writer(tmp_path):
    program = textwrap.dedent("""
        import resource, sys
        from doorward.bundles.saving import save_model
        from doorward.errors import StorageFailed
        from doorward.models import create
        model = create("resnet8", classes=2, width=8)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            save_model(model, sys.argv[1] + "/m")
        except StorageFailed as error:
            sys.stdout.write(str(error))
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "could not be written" in done.stdout
    assert not list(tmp_path.iterdir())


# --- what cannot be loaded --------------------------------------------------------------------


def test_missing_things(folder, tmp_path):
    with pytest.raises(MissingData, match="no such folder"):
        load_model(tmp_path / "none")
    with pytest.raises(MissingData, match=r"model\.json"):
        load_model(tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(MissingData, match=r"model\.safetensors"):
        load_model(folder)
    for odd in ("a\0b", "x" * 5000):
        with pytest.raises(DoorwardError):
            load_model(odd)


@pytest.mark.parametrize("keep", [0, 4, 8, 100, -1])
def test_truncated_weights(folder, keep):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    for verify in (True, False):
        with pytest.raises(BadFile, match="not a whole safetensors file"):
            load_model(folder, verify=verify)


def test_longer_weights(folder):
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"\0" * 4)
    with pytest.raises(BadFile, match="announced"):
        load_model(folder, verify=False)


def test_changed_weights(folder):
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-4] ^= 1
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match="SHA-256"):
        load_model(folder)
    with pytest.raises(IntegrityError, match="SHA-256"):
        digest(folder)
    load_model(folder, verify=False)  # asked for: a flipped mantissa bit goes unnoticed


@pytest.mark.parametrize("name", ["claim.json", "root.bin"])
def test_changed_evidence(folder, name):
    (folder / "evidence" / name).write_bytes(b"changed")
    with pytest.raises(IntegrityError, match=name):
        digest(folder)
    (folder / "evidence" / name).unlink()
    with pytest.raises(MissingData, match=name):
        digest(folder)


def test_added_evidence(folder):
    (folder / "evidence" / "new").write_bytes(b"")
    with pytest.raises(IntegrityError, match="new"):
        digest(folder)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"version": 2}, BadFile, "Upgrade"),
        ({"version": "\n" * 9999}, BadFile, "Upgrade"),
        ({"format": "other"}, BadFile, "format"),
        ({"architecture": "resnet9"}, UnknownName, "resnet8"),
        ({"architecture": None}, BadFile, "either"),
        ({"factory": "os:system"}, BadFile, "either"),
        ({"classes": ["a", "b", "c"]}, BadFile, r"head\.weight \(expected 3x8, found 2x8\)"),
        ({"classes": ["a"]}, BadFile, "classes"),
        ({"classes": ["a", "a"]}, BadFile, "distinct"),
        ({"options": {"width": 4}}, BadFile, "another shape"),
        ({"options": {"width": "4"}}, BadFile, "as the card says"),
        ({"options": {"width": 2**30}}, BadFile, "card"),
        ({"options": {"depth": 4}}, BadFile, "as the card says"),
        ({"options": {"width": -1}}, BadFile, "card"),
        ({"options": {"width": True}}, BadFile, "card"),
        ({"options": {"width": [2]}}, BadFile, "card"),
        ({"input_shape": [1, 16]}, BadFile, "input_shape"),
        ({"input_shape": [0, 16, 16]}, BadFile, "input_shape"),
        ({"std": [0.0]}, BadFile, "std"),
        ({"mean": [0.1, 0.2]}, BadFile, "each channel"),
        ({"weights_sha256": "x"}, BadFile, "weights_sha256"),
        ({"weights_sha256": "0" * 64}, IntegrityError, "SHA-256"),
        ({"extra": 1}, BadFile, "extra"),
    ],
)
def test_wrong_cards(folder, change, error, message):
    edit(folder, **change)
    with pytest.raises(error, match=message):
        load_model(folder)


def test_nan_in_stored_weights(folder):
    weights = {
        name: value.clone() for name, value in read_weights(folder / "model.safetensors").items()
    }
    weights["head.bias"][1] = float("inf")
    store(folder, weights)
    with pytest.raises(ModelUnsuitable, match=r"head\.bias"):
        load_model(folder)


def test_missing_and_unexpected_tensors_are_named(folder):
    weights = {
        name: value.clone() for name, value in read_weights(folder / "model.safetensors").items()
    }
    weights["tail.bias"] = weights.pop("head.bias")
    store(folder, weights)
    with pytest.raises(BadFile, match=r"missing: head\.bias; unexpected: tail\.bias"):
        load_model(folder)


class Malice:
    def __reduce__(self):
        return (os.mkdir, ("/tmp/doorward-was-here",))


@pytest.mark.parametrize("form", ["pickle", "torch", "legacy"])
def test_a_pickle_that_pretends_to_be_safetensors(folder, form):
    path = folder / "model.safetensors"
    if form == "pickle":
        path.write_bytes(pickle.dumps(Malice()))
    else:
        torch.save(Malice(), path, _use_new_zipfile_serialization=form == "torch")
    assert is_pickle(path)
    with pytest.raises(UnsafeFile, match=r"pretends.*doorward convert"):
        load_model(folder)
    assert not Path("/tmp/doorward-was-here").exists()


def test_a_safetensors_header_that_looks_like_a_pickle(tmp_path):
    path = tmp_path / "w.safetensors"
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes((0x0280).to_bytes(8, "little") + header.ljust(0x0280) + b"\0" * 4)
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert not is_pickle(path)
    assert read_shapes(path) == {"a": (1,)}


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".bin", ".ckpt", ".dat"])
def test_a_checkpoint_instead_of_a_bundle(tmp_path, suffix):
    path = tmp_path / f"net{suffix}"
    torch.save({}, path)
    with pytest.raises(UnsafeFile, match="Run: doorward convert ") as caught:
        load_model(path)
    command = f"doorward convert {path} --arch ARCHITECTURE --classes N"
    assert f"{command} --out {path.with_suffix('.model')}" in str(caught.value)


# --- foreign modules --------------------------------------------------------------------------


def test_foreign_bundles_need_trust(tmp_path):
    card = save_model(
        torch.nn.Linear(4, 2),
        tmp_path / "m",
        factory="this.does.not:exist",
        classes=["a", "b"],
        input_shape=(1, 2, 2),
    )
    assert (card.architecture, card.factory) == (None, "this.does.not:exist")
    with pytest.raises(ModelUnsuitable, match="foreign module"):
        load_model(tmp_path / "m")
    with pytest.raises(UnsafeFile, match="trust_factory=True"):
        load_module(tmp_path / "m")
    assert digest(tmp_path / "m") == card.digest()


# --- fuzzing ----------------------------------------------------------------------------------


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_bit_flips_in_the_weights(master, tmp_path, data):
    folder = tmp_path / "m"
    if not folder.exists():
        shutil.copytree(master, folder)
    original = (master / "model.safetensors").read_bytes()
    content = bytearray(original)
    # mostly the header: it is what a parser can stumble over
    limit = data.draw(st.sampled_from([8, 200, len(content)]))
    content[data.draw(st.integers(0, limit - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(DoorwardError):
        load_model(folder)
    try:
        load_model(folder, verify=False)
    except DoorwardError:
        return


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_random_weights(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadFile):
        read_weights(path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


@settings(deadline=None, max_examples=150)
@given(
    header=st.dictionaries(st.text(max_size=3), json_values, max_size=3), tail=st.binary(max_size=9)
)
def test_random_headers(tmp_path_factory, header, tail):
    content = json.dumps(header).encode()
    path = tmp_path_factory.mktemp("fuzz") / "w.safetensors"
    path.write_bytes(len(content).to_bytes(8, "little") + content + tail)
    try:
        read_weights(path)
    except BadFile:
        return
    assert not tail


@settings(
    deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_any_json_in_any_field_of_the_card(master, tmp_path, data):
    folder = tmp_path / "m"
    if not folder.exists():
        shutil.copytree(master, folder)
    content = json.loads((master / "model.json").read_text())
    name = data.draw(st.sampled_from(sorted(content)))
    content[name] = data.draw(json_values)
    (folder / "model.json").write_text(json.dumps(content))
    try:
        card = read_card(folder)
        load_model(folder)
    except DoorwardError:
        return
    assert ModelCard.from_dict(card.to_dict()) == card


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=200))
def test_random_cards(tmp_path, content):
    (tmp_path / "model.json").write_bytes(content)
    with pytest.raises(BadFile):
        read_card(tmp_path)
