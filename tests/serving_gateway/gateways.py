"""A tiny ONNX classifier, its honeypot, and gateways around them, with and without sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from doorward.randomness import Secret
from doorward.serving.database import Database
from doorward.serving.gateway import (
    Gateway,
    Graphs,
    Settings,
    TenantBook,
    add_tenant,
    create_app,
)

SHAPE = (1, 8, 8)
CLASSES = 4
SECRET = Secret(bytes(range(32)))


def write_linear(
    path: Path, *, seed: int = 0, bias: tuple[float, ...] | None = None, side: int = 8
) -> Path:
    """A linear classifier of flattened images as an ONNX file, in microseconds."""
    weight = np.random.default_rng(seed).standard_normal((side**2, CLASSES)).astype(np.float32)
    offset = np.array(bias or (0.0,) * CLASSES, dtype=np.float32)
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 1, side, side])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["images"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits"]),
        ],
        "linear",
        [images],
        [logits],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(offset, "bias")],
    )
    opset = [helper.make_opsetid("", 18)]
    save(helper.make_model(graph, opset_imports=opset, ir_version=9), path)
    return path


def pictures(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *SHAPE), dtype=np.float32)


def asking(images: np.ndarray, **extra: Any) -> dict[str, Any]:
    """The JSON of a request."""
    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "FP32",
        "data": images.ravel().tolist(),
    }
    return {"inputs": [tensor], **extra}


class House:
    """A gateway with tenants, and clients of it that need no socket."""

    def __init__(self, folder: Path, graphs: Graphs, **settings: Any) -> None:
        self.tenants, self.database_path = folder / "tenants.json", folder / "gateway.sqlite"
        self.graphs, self.settings = graphs, Settings(model="net", **settings)
        self.keys: dict[str, str] = {}

    def add(self, name: str, **fields: Any) -> str:
        self.keys[name] = add_tenant(self.tenants, name, **fields)
        return self.keys[name]

    def gateway(self, **fields: Any) -> Gateway:
        book = TenantBook.load(self.tenants) if self.tenants.exists() else None
        fields = {"settings": self.settings, "secret": SECRET, **fields}
        database = fields.pop("database", None) or Database(self.database_path)
        return Gateway(self.graphs, database=database, tenants=book, **fields)

    def run(self, scenario: Callable[..., Any], gateway: Gateway | None = None) -> Any:
        """`scenario(ask, gateway)`, with the gateway running; `ask(images, tenant, ...)`."""
        gateway = gateway or self.gateway()

        async def play() -> Any:
            app = create_app(gateway)
            transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url="http://gateway") as client,
            ):

                async def ask(images: Any, tenant: str | None = None, **extra: Any) -> Any:
                    key = self.keys.get(tenant or "")
                    return await client.post(
                        "/v2/models/net/infer",
                        json=asking(images, **extra) if isinstance(images, np.ndarray) else images,
                        headers={"Authorization": f"Bearer {key}"} if key else {},
                    )

                ask.client = client  # type: ignore[attr-defined]
                return await scenario(ask, gateway)

        return asyncio.run(play())


def scores(response: httpx.Response) -> np.ndarray:
    """The probabilities of a JSON answer."""
    assert response.status_code == 200, response.text
    (tensor,) = [item for item in response.json()["outputs"] if item["name"] == "probabilities"]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def labels(response: httpx.Response) -> list[int]:
    """The labels of a JSON answer."""
    assert response.status_code == 200, response.text
    (tensor,) = [item for item in response.json()["outputs"] if item["name"] == "labels"]
    assert tensor["datatype"] == "INT64"
    return json.loads(json.dumps(tensor["data"]))


@contextmanager
def listening(gateway: Gateway) -> Iterator[str]:
    """The gateway behind a real socket on a free port, in a thread; its address."""
    import uvicorn

    config = uvicorn.Config(create_app(gateway), port=0, log_level="error", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    try:
        yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()
