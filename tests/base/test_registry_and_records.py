import json
import time
from typing import Annotated

import pytest
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput, UnknownName
from doorward.records import STRICT, Record, environment, measure
from doorward.registry import Registry


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Inner(Record):
    rate: Annotated[float, Field(ge=0, le=1)] = 0.5


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Outer(Record):
    name: str
    inner: Inner = Inner()
    sizes: tuple[int, ...] = (1, 2)


def test_record_survives_json():
    record = Outer(name="x", inner=Inner(rate=0.25), sizes=(3,))
    again = Outer.from_dict(json.loads(json.dumps(record.to_dict())))
    assert again == record
    assert again.digest() == record.digest()


def test_digest_depends_on_every_field():
    records = [
        Outer(name="x"),
        Outer(name="y"),
        Outer(name="x", sizes=()),
        Outer(name="x", inner=Inner(rate=0)),
    ]
    assert len({r.digest() for r in records}) == 4


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ({}, "name"),
        ({"name": "x", "colour": 1}, "colour"),
        ({"name": "x", "inner": {"rate": 2}}, "inner.rate"),
        ({"name": 3}, "name"),
    ],
)
def test_invalid_record_names_the_field(content, named):
    with pytest.raises(InvalidInput, match=named):
        Outer.from_dict(content)


def test_record_is_frozen():
    with pytest.raises(AttributeError):
        Outer(name="x").name = "y"


def test_environment_is_json():
    assert json.loads(json.dumps(environment()))["packages"]["torch"] == torch.__version__


def test_measure_sees_time_and_memory():
    with measure() as idle:
        pass
    with measure() as busy:
        block = torch.ones(64 * 2**20)  # 256 MiB of float32
        time.sleep(0.12)
        del block
    assert busy.seconds >= 0.12 > idle.seconds
    if not torch.cuda.is_available():
        assert busy.peak_memory_mib > idle.peak_memory_mib + 200


def test_registry_refuses_duplicates_and_sorts():
    table = Registry("thing")
    table.register("b", year=2019)(len)
    table.register("a")(max)
    assert list(table) == table.names() == ["a", "b"]
    assert table.facts("b") == {"year": 2019}
    assert len(table) == 2
    assert "a" in table
    with pytest.raises(InvalidInput, match="registered already"):
        table.register("a")(min)
    for look in (table.__getitem__, table.facts, table.summary):
        with pytest.raises(UnknownName, match="Known: a, b"):
            look("q")


def test_facts_are_a_copy():
    table = Registry("thing")
    table.register("b", year=2019)(len)
    table.facts("b")["year"] = 0
    assert table.facts("b") == {"year": 2019}
