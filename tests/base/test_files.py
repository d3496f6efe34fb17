import errno
import json
import os
import stat

import pytest

from doorward import files
from doorward.errors import BadFile, MissingData, StorageFailed


def test_json_round_trip_makes_missing_folders(tmp_path):
    path = tmp_path / "a" / "b.json"
    files.write_json(path, {"x": [1, None, "é"]})
    assert files.read_json(path) == {"x": [1, None, "é"]}
    assert path.read_text().endswith("}\n")


def test_nan_is_refused_and_the_old_file_stays(tmp_path):
    path = tmp_path / "r.json"
    files.write_json(path, {"x": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"x": float("nan")})
    assert files.read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["r.json"]


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_full_disk_leaves_the_old_file_and_no_rubbish(tmp_path, monkeypatch, step):
    path = tmp_path / "r.json"
    files.write_json(path, {"x": 1})

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(StorageFailed, match="No space left on device"):
        files.write_json(path, {"x": 2})
    monkeypatch.undo()
    assert files.read_json(path) == {"x": 1}
    assert os.listdir(tmp_path) == ["r.json"]


def test_private_files_are_for_their_owner_only(tmp_path):
    files.write_bytes(tmp_path / "key", b"k", private=True)
    files.write_bytes(tmp_path / "open", b"k")
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) & 0o044


def test_folder_is_swapped_whole(tmp_path):
    target = tmp_path / "model"
    for word in ("old", "new"):
        with files.atomic_folder(target) as folder:
            (folder / f"{word}.txt").write_text(word)
    assert [p.name for p in target.iterdir()] == ["new.txt"]
    assert os.listdir(tmp_path) == ["model"]


def test_folder_stays_when_the_writer_fails(tmp_path):
    target = tmp_path / "model"
    with files.atomic_folder(target) as folder:
        (folder / "a").write_text("1")

    def fail():
        with files.atomic_folder(target) as folder:
            (folder / "b").write_text("2")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half"):
        fail()
    assert [p.name for p in target.iterdir()] == ["a"]
    assert os.listdir(tmp_path) == ["model"]


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"", b"[" * 100_000, b"9" * 5000])
def test_bad_json_is_a_bad_file(tmp_path, content):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(BadFile, match="not valid JSON"):
        files.read_json(path)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(MissingData, match=r"nothing\.json"):
        files.read_json(tmp_path / "nothing.json")
    with pytest.raises(BadFile, match="folder"):
        files.read_json(tmp_path)


def test_canonical_json_does_not_depend_on_order():
    a = {"b": {"y": 1, "x": "é"}, "a": [1.5, True]}
    b = json.loads(json.dumps(a, sort_keys=True))
    assert (
        files.canonical_json(a)
        == files.canonical_json(b)
        == ('{"a":[1.5,true],"b":{"x":"é","y":1}}'.encode())
    )


def test_sha256_of_known_content(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
