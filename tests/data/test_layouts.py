"""Every named data set, read from tiny files in its official layout: whole, missing and damaged."""

import importlib.util
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from doorward.data import DATASETS, StreamedImages, available, data_root, load
from doorward.data.mnist import read_idx
from doorward.errors import (
    BadFile,
    InvalidInput,
    MissingData,
    UnknownName,
)

_SPEC = importlib.util.spec_from_file_location("layouts", Path(__file__).with_name("layouts.py"))
layouts = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(layouts)
WRITERS = layouts.WRITERS
NAMES = sorted(WRITERS)


def test_every_named_set_is_tested():
    assert set(NAMES) | {"digits"} == set(DATASETS)
    assert DATASETS.facts("digits")["layout"] == "(bundled)"
    assert DATASETS.facts("cifar10")["layout"] == "cifar-10-batches-py/"
    assert DATASETS.facts("svhn")["splits"] == ("train", "test", "extra")


@pytest.mark.parametrize("name", NAMES)
def test_the_official_layout_is_read(name, tmp_path):
    written = WRITERS[name](tmp_path)
    assert available(name, tmp_path)
    for split, (images, labels) in written.items():
        data = load(name, root=tmp_path, split=split)
        assert torch.equal(data.images, torch.from_numpy(images.copy()))
        assert data.labels.tolist() == labels
        assert data.num_classes == DATASETS.facts(name)["classes"]
        assert data.name == name
        resized = load(name, root=tmp_path, split=split, size=16, channels=1)
        assert resized.image_shape == (1, 16, 16)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_comes_with_its_remedy(name, tmp_path):
    assert not available(name, tmp_path)
    with pytest.raises(MissingData, match=f"doorward data fetch {name}") as caught:
        load(name, root=tmp_path)
    assert str(tmp_path) in str(caught.value)
    with pytest.raises(UnknownName, match=r"nown: .*train"):
        load(name, root=tmp_path, split="holdout")


def load_both(name, root):
    for split in ("train", "test"):
        load(name, root=root, split=split)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damage", ["halved", "emptied", "scrambled"])
def test_each_damaged_file_is_named(name, damage, tmp_path):
    WRITERS[name](tmp_path)
    files = [p for p in sorted(tmp_path.rglob("*")) if p.is_file()]
    for path in (p for p in files if p.name not in ("words.txt", "unlabeled_X.bin")):
        whole = path.read_bytes()
        if path.suffix in (".csv", ".txt") and damage == "halved":
            continue  # a table cut at a line's end is a shorter table
        changed = {
            "halved": whole[: len(whole) // 2 + 1],
            "emptied": b"",
            "scrambled": bytes(b ^ 0xA5 for b in whole),
        }[damage]
        if path.name.endswith("_X.bin") and damage == "scrambled":
            continue  # raw pixels: any bytes are an image
        path.write_bytes(changed)
        with pytest.raises((BadFile, MissingData)) as caught:
            load_both(name, tmp_path)
        assert "estore" in str(caught.value) or "fetch" in str(caught.value)
        path.write_bytes(whole)
    load_both(name, tmp_path)


def test_classes_of_tiny_imagenet_are_words_told_apart(tmp_path):
    WRITERS["tiny-imagenet"](tmp_path)
    classes = load("tiny-imagenet", root=tmp_path).classes
    assert classes[0] == "thing0"
    assert classes[3] == "crane (n00000003)"
    assert len(set(classes)) == 200


def test_gtsrb_streams_and_reads_the_newer_folder(tmp_path):
    WRITERS["gtsrb"](tmp_path)
    (tmp_path / "GTSRB" / "Final_Training" / "Images").rename(tmp_path / "GTSRB" / "Training")
    memory = load("gtsrb", root=tmp_path)
    stream = load("gtsrb", root=tmp_path, stream=True)
    assert isinstance(stream, StreamedImages)
    assert torch.equal(stream.fetch(torch.arange(4))[0], memory.images)
    assert load("gtsrb", root=tmp_path, size=20).image_shape == (3, 20, 20)


def test_gtsrb_tables_cannot_point_elsewhere(tmp_path):
    WRITERS["gtsrb"](tmp_path)
    table = tmp_path / "GT-final_test.csv"
    table.write_text(table.read_text().replace("00001.ppm", "../../secret.ppm"))
    with pytest.raises(BadFile, match="outside"):
        load("gtsrb", root=tmp_path, split="test")
    table.write_text("Filename;ClassId\n00000.ppm;43\n")
    with pytest.raises(BadFile, match="class 43"):
        load("gtsrb", root=tmp_path, split="test")


def test_stl10_has_unlabelled_images(tmp_path):
    WRITERS["stl10"](tmp_path)
    pool = load("stl10", root=tmp_path, split="unlabelled")
    assert (len(pool), pool.classes) == (2, ("unlabelled",))


def test_labels_that_do_not_fit_the_images(tmp_path):
    WRITERS["mnist"](tmp_path)
    labels = tmp_path / "MNIST" / "raw" / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(layouts.idx(np.arange(4, dtype=np.uint8)))
    with pytest.raises(BadFile, match=r"labels have shape \(4,\)"):
        load("mnist", root=tmp_path)
    labels.write_bytes(layouts.idx(np.array([0, 1, 2, 3, 10], dtype=np.uint8)))
    with pytest.raises(BadFile, match="label 10 is out of range"):
        load("mnist", root=tmp_path)


@settings(
    deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=64))
def test_fuzzed_idx_files_end_in_our_errors(tmp_path, tail):
    path = tmp_path / "fuzzed"
    for content in (tail, bytes([0, 0, 8, 1]) + tail, b"\x1f\x8b\x08\x00" + tail):
        path.write_bytes(content)
        try:
            array = read_idx(path, 1)
        except BadFile:
            continue
        assert array.tolist() == list(content[8:])


def test_a_lying_idx_header_asks_for_no_memory(tmp_path):
    path = tmp_path / "lie"
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", *[2**32 - 1] * 3) + b"xyz")
    with pytest.raises(BadFile, match="declares"):
        read_idx(path, 3)


def test_unknown_names_list_the_known_ones(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'cifar10'"):
        load("cifar-10", root=tmp_path)
    with pytest.raises(MissingData, match="no file or folder"):
        load("./nothing/here", root=tmp_path)


def test_data_root_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("DOORWARD_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("DOORWARD_HOME", str(tmp_path / "home"))
    assert data_root() == tmp_path / "data"
    monkeypatch.delenv("DOORWARD_DATA")
    assert data_root() == tmp_path / "home" / "data"
    monkeypatch.delenv("DOORWARD_HOME")
    assert data_root() == Path.home() / ".cache" / "doorward" / "data"


def test_size_and_channels_must_be_possible():
    with pytest.raises(InvalidInput):
        load("digits", size=0)
    with pytest.raises(InvalidInput):
        load("digits", channels=4)


@pytest.mark.data
@pytest.mark.skipif(not available("cifar10"), reason="DOORWARD_DATA holds no CIFAR-10")
def test_the_real_cifar10():
    train, test = load("cifar10"), load("cifar10", split="test")
    assert train.counts().tolist() == [5000] * 10
    assert test.counts().tolist() == [1000] * 10
    assert train.classes[:3] == ("airplane", "automobile", "bird")
    means = (train.pixels().mean((0, 2, 3)) * 255).tolist()
    assert means == pytest.approx([125.31, 122.95, 113.87], abs=0.01)  # the published ones
    assert train.labels[:5].tolist() == [6, 9, 9, 4, 1]
