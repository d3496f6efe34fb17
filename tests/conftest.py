"""Fixtures that several areas share."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked ``gpu`` need one."""
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def _imports_of_a_test_stay_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Forget modules that a test imported from a temporary folder, and its changes of the path."""
    path = list(sys.path)
    yield
    sys.path[:] = path
    here = str(tmp_path_factory.getbasetemp())
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(here):
            del sys.modules[name]


@dataclass
class Failure:
    """What the server does instead of answering one request."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    delay: float = 0.0
    drop: bool = False


@dataclass
class InferenceServer:
    """An Open Inference Protocol (v2) server on 127.0.0.1 around a function `images -> answers`.

    Integer answers `(N,)` go out as INT64 `labels`; floating-point answers `(N, K)` as FP32
    `logits`. `failures` are served first, one per request to `.../infer`; `metadata` and `rewrite`
    change what is said; `requests` counts what came in.
    """

    answer: Callable[[Tensor], Tensor]
    name: str = "model"
    image_shape: tuple[int, ...] = (-1, -1, -1)
    num_classes: int = 10
    input_datatype: str = "FP32"
    logits: bool = False
    failures: list[Failure] = field(default_factory=list)
    metadata: dict[str, Any] | None = None
    rewrite: Callable[[dict[str, Any]], Any] = lambda response: response
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    def describe(self) -> dict[str, Any]:
        output = {"name": "labels", "datatype": "INT64", "shape": [-1]}
        if self.logits:
            output = {"name": "logits", "datatype": "FP32", "shape": [-1, self.num_classes]}
        taken = {
            "name": "images",
            "datatype": self.input_datatype,
            "shape": [-1, *self.image_shape],
        }
        return {
            "name": self.name,
            "platform": "test",
            "versions": ["1"],
            "inputs": [taken],
            "outputs": [output],
        }

    def infer(self, request: dict[str, Any]) -> Any:
        (tensor,) = request["inputs"]
        self.requests.append({**tensor, "data": None})
        assert tensor["datatype"] == self.input_datatype
        assert tensor["name"] == "images"
        images = torch.tensor(tensor["data"], dtype=torch.float32).reshape(tensor["shape"])
        if self.input_datatype == "UINT8":
            images = images / 255
        answers = self.answer(images)
        whole = not answers.is_floating_point()
        output = {
            "name": "labels" if whole else "logits",
            "datatype": "INT64" if whole else "FP32",
            "shape": list(answers.shape),
            "data": answers.flatten().tolist(),
        }
        return self.rewrite({"model_name": self.name, "outputs": [output]})


@pytest.fixture
def inference_server() -> Iterator[Callable[..., InferenceServer]]:
    """Factory `inference_server(answer, **fields) -> InferenceServer`, stopped after the test."""
    running: list[ThreadingHTTPServer] = []

    def start(answer: Callable[[Tensor], Tensor], **fields: Any) -> InferenceServer:
        state = InferenceServer(answer, **fields)
        server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
        server.daemon_threads = True
        running.append(server)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}"
        return state

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def _handler(state: InferenceServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state.headers.append(dict(self.headers))
            if self.path == f"/v2/models/{state.name}":
                self.reply(200, json.dumps(state.metadata or state.describe()).encode())
            else:
                self.reply(404, json.dumps({"error": f"no model at {self.path}"}).encode())

        def do_POST(self) -> None:
            state.headers.append(dict(self.headers))
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if state.failures:
                self.fail(state.failures.pop(0))
            elif self.path != f"/v2/models/{state.name}/infer":
                self.reply(404, b'{"error": "no such model"}')
            else:
                self.reply(200, json.dumps(state.infer(json.loads(content))).encode())

        def fail(self, failure: Failure) -> None:
            time.sleep(failure.delay)
            if failure.drop:
                self.close_connection = True
            else:
                self.reply(failure.status, failure.body, failure.headers)

        def reply(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            try:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except (BrokenPipeError, ConnectionResetError):  # the client gave up, as tests want
                self.close_connection = True

        def log_message(self, *arguments: Any) -> None:
            pass

    return Handler


@pytest.fixture
def failure() -> type[Failure]:
    """The class of failures to put in `InferenceServer.failures`."""
    return Failure


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL of our own, on a socket in a temporary folder: its URL."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("no PostgreSQL binaries under /usr/lib/postgresql")
    pytest.importorskip("psycopg")
    user: str | None = None
    if os.geteuid() == 0:  # PostgreSQL refuses to run as root
        names = [entry.pw_name for entry in pwd.getpwall()]
        user = next((name for name in ("postgres", "nobody") if name in names), None)
        if user is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user")
    folder = Path(tempfile.mkdtemp(prefix="doorward-pg-"))
    if user:
        shutil.chown(folder, user)
    programs, data = found[-1].parent, folder / "data"

    def run(*words: object) -> None:
        subprocess.run([*map(str, words)], check=True, user=user, cwd=folder, capture_output=True)

    try:
        run(programs / "initdb", "-D", data, "-U", "doorward", "-A", "trust", "--no-sync")
        options = f"-k {folder} -c listen_addresses= -c max_connections=60 -c fsync=off"
        run(programs / "pg_ctl", "-D", data, "-w", "-l", folder / "log", "-o", options, "start")
        try:
            yield f"postgresql+psycopg://doorward@/postgres?host={folder}"
        finally:
            run(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
