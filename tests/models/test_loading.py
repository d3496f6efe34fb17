"""Models from a factory's name, and what can be wrong with the name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from torch import nn

from doorward.errors import DoorwardError, InvalidInput, MissingData, ModelUnsuitable, UnknownName
from doorward.models import load_factory

SOURCE = """
from torch import nn

class Nets:
    @staticmethod
    def small(classes=2):
        return nn.Sequential(nn.Flatten(), nn.Linear(4, classes))

ready = nn.Identity()
number = 3

def build(classes):
    return Nets.small(classes)

def wrong():
    return {"state": 1}

def broken():
    raise RuntimeError("no weights here")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "my_nets.py"
    path.write_text(SOURCE)
    return path


def test_a_module_a_file_and_a_nested_name(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(load_factory("torch.nn:Identity"), nn.Identity)
    assert load_factory(f"{file}:build", classes=5)[1].out_features == 5
    assert load_factory(f"{file}:Nets.small")[1].out_features == 2
    assert isinstance(load_factory(f"{file}:ready"), nn.Identity)
    before = list(sys.path)
    with pytest.raises(MissingData, match=r"no module my_nets.*PYTHONPATH"):
        load_factory("my_nets:build", classes=5)
    assert sys.path == before
    monkeypatch.syspath_prepend(file.parent)
    assert load_factory("my_nets:build", classes=4)[1].out_features == 4


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("", InvalidInput, "names no factory"),
        ("torch.nn", InvalidInput, "package.module:factory"),
        ("torch.nn:", InvalidInput, "names no factory"),
        (":build", InvalidInput, "names no factory"),
        ("torch.nn:Linear()", InvalidInput, "names no factory"),
        ("torch..nn:Linear", InvalidInput, "is no module name"),
        ("../nets:build", InvalidInput, "is no module name"),
        ("torch.nothing_there:build", MissingData, "no module torch.nothing_there"),
        ("nowhere.py:build", MissingData, "no file nowhere.py"),
        ("torch.nn:Linaer", UnknownName, "Did you mean 'Linear'"),
        ("torch.nn:Linear", InvalidInput, "in_features"),
        ("{file}:biuld", UnknownName, "Did you mean 'build'"),
        ("{file}:number", InvalidInput, "a callable is needed"),
        ("{file}:wrong", ModelUnsuitable, "returned a dict"),
        ("{file}:broken", InvalidInput, "RuntimeError: no weights here"),
    ],
)
def test_bad_names_are_explained(
    name: str, kind: type[DoorwardError], words: str, file: Path
) -> None:
    with pytest.raises(kind) as error:
        load_factory(name.format(file=file))
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("import nothing_of_that_name", InvalidInput, "nothing_of_that_name"),
        ("def build(:", InvalidInput, "SyntaxError"),
        ("1 / 0", InvalidInput, "ZeroDivisionError"),
    ],
)
def test_a_file_that_fails_to_import(
    source: str, kind: type[DoorwardError], words: str, tmp_path: Path
) -> None:
    path = tmp_path / "bad.py"
    path.write_text(source)
    with pytest.raises(kind, match=words):
        load_factory(f"{path}:build")
    assert not [name for name in sys.modules if name.startswith("doorward_factory_") and
                getattr(sys.modules[name], "__file__", "") == str(path)]  # fmt: skip


def test_a_module_whose_own_import_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "needs_more.py").write_text("import nothing_of_that_name")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingData, match=r"needs_more imports what is not there.*nothing_of"):
        load_factory("needs_more:build")
