"""Fixtures of the gateway's tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tests.serving_gateway.gateways import House, write_linear

from doorward.serving.gateway import Graphs


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`clean`, `honeypot` (class 3 is answered much more often) and `other` ONNX files."""
    folder = tmp_path_factory.mktemp("graphs")
    return SimpleNamespace(
        clean=write_linear(folder / "clean.onnx"),
        honeypot=write_linear(folder / "honeypot.onnx", bias=(0.0, 0.0, 0.0, 100.0)),
        other=write_linear(folder / "other.onnx", seed=1),
    )


@pytest.fixture(scope="session")
def graphs(files: SimpleNamespace) -> Graphs:
    return Graphs.load(files.clean, [files.honeypot], threads=1)


@pytest.fixture
def house(tmp_path: Path, graphs: Graphs) -> House:
    return House(tmp_path, graphs)


@pytest.fixture
def house_of(tmp_path: Path, graphs: Graphs) -> Callable[..., House]:
    return lambda **settings: House(tmp_path, graphs, **settings)
