"""``doorward export onnx``, ``gateway tenant``, ``gateway evidence``, ``gateway reference``."""

from __future__ import annotations

import asyncio
import socket
import sqlite3

import httpx
import numpy as np
import pytest
import torch

from doorward.models import OnnxBox
from doorward.serving.database import Database
from doorward.serving.gateway import Gateway, Graphs, TenantBook, create_app, read_secret


@pytest.fixture(scope="module")
def exported(house, doorward, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "plain.onnx"
    told = doorward("export", "onnx", house / "plain.model", "--out", out)
    assert told["max_difference"] < 1e-3
    return out


def test_export(exported, house, doorward, tmp_path):
    box = OnnxBox(exported)
    assert (box.num_classes, box.input_shape) == (10, (1, 16, 16))
    doorward(
        "export", "onnx", house / "plain.model", "--out", tmp_path / "a.pt", code=2, parse=False
    )
    doorward("export", "onnx", tmp_path / "none", "--out", tmp_path / "a.onnx", code=2, parse=False)


def test_a_life_of_tenants_and_evidence(exported, doorward, tmp_path):
    tenants, database = tmp_path / "tenants.json", tmp_path / "gateway.sqlite"
    secret, images = tmp_path / "gateway.secret", torch.rand(3, 1, 16, 16).numpy()
    kept = ["--database", database, "--secret", secret]
    key = doorward(
        "gateway", "tenant", "add", "ada", "--tenants", tenants, "--budget", 5, "--answers", "top-2"
    )["key"]
    again = doorward("gateway", "tenant", "add", "ada", "--tenants", tenants, code=2, parse=False)
    assert "there is a tenant called 'ada'" in again.stderr
    bad = ["--tenants", tenants, "--answers", "everything"]
    doorward("gateway", "tenant", "add", "bob", *bad, code=2, parse=False)

    gateway = Gateway(
        Graphs.load(exported, threads=1),
        database=Database(database),
        secret=read_secret(secret, make=True),
        tenants=TenantBook.load(tenants),
    )

    async def ask():
        app = create_app(gateway)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(
                transport=httpx.ASGITransport(app=app), base_url="http://gateway"
            ) as client,
        ):
            tensor = {"name": "images", "datatype": "FP32", "shape": [3, 1, 16, 16],
                      "data": images.ravel().tolist()}  # fmt: skip
            for status in (200, 429):
                answer = await client.post(
                    "/v2/models/model/infer", json={"inputs": [tensor]}, headers={"X-API-Key": key}
                )
                assert answer.status_code == status

    asyncio.run(ask())
    (row,) = doorward("gateway", "tenant", "list", "--tenants", tenants, *kept)["tenants"]
    assert (row["name"], row["used"], row["budget"], row["stage"]) == ("ada", 3, 5, 0)
    assert "key" not in row
    doorward("gateway", "tenant", "place", "ada", "--stage", 1, "--tenants", tenants, *kept)
    shown = doorward("gateway", "tenant", "list", "--tenants", tenants, *kept, parse=False).stdout
    assert "top-2" in shown
    moves = doorward("gateway", "evidence", "moves", *kept)["moves"]
    assert [move["facts"] for move in moves] == [{"by": "operator", "from": 0, "to": 1}]

    check = doorward("gateway", "evidence", "check", *kept)
    assert (check["whole"], check["rows"]) == (True, 2)
    anchor = ["--anchor", f"2:{check['head']}"]
    doorward("gateway", "evidence", "check", *kept, *anchor)
    doorward("gateway", "evidence", "check", *kept, "--anchor", f"1:{check['head']}", code=1)
    doorward("gateway", "evidence", "check", *kept, "--anchor", "x", code=2, parse=False)

    np.save(tmp_path / "asked.npy", images[1:2])
    np.save(tmp_path / "not.npy", images[1:2] * 0.5)
    found = doorward(
        "gateway", "evidence", "find", "ada", "--images", tmp_path / "asked.npy", *kept
    )
    assert [row["number"] for row in found["rows"]] == [1]
    assert found["rows"][0]["facts"]["policy"] == "clean"
    find = ["gateway", "evidence", "find", "ada", *kept, "--images"]
    doorward(*find, tmp_path / "not.npy", code=1)
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY junk")
    for name in ("none.npy", "bad.npy", "gateway.sqlite"):
        doorward(*find, tmp_path / name, code=2, parse=False)

    with sqlite3.connect(database) as connection:
        connection.execute("update gateway_evidence set tenant = 'eve' where number = 1")
    broken = doorward("gateway", "evidence", "check", *kept, code=1)
    assert broken["problem"] == "row 1 was changed"
    doorward("gateway", "tenant", "revoke", "ada", "--tenants", tenants)
    doorward("gateway", "tenant", "revoke", "eve", "--tenants", tenants, code=2, parse=False)


def test_reference(exported, doorward, tmp_path):
    out = tmp_path / "reference.json"
    told = doorward(
        "gateway", "reference", exported, "--data", "digits", "--size", 16, "--limit", 100,
        "--out", out,
    )  # fmt: skip
    assert (told["images"], len(told["shares"])) == (100, 10)
    assert out.is_file()


def test_serve_says_that_the_port_is_taken(exported, doorward, tmp_path):
    kept = ["--database", tmp_path / "g.sqlite", "--secret", tmp_path / "g.secret"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = doorward("serve", exported, "--port", port, *kept, code=2, parse=False)
    assert "cannot be listened at" in told.stderr


def test_serve_refuses_what_cannot_be_served(exported, doorward, tmp_path):
    kept = ["--database", tmp_path / "g.sqlite", "--secret", tmp_path / "g.secret"]
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "odd.json").write_text('{"ladder": ["clean", "dirty"]}')
    for words in (
        [tmp_path / "none.onnx"],
        [exported, "--tenants", tmp_path / "none.json"],
        [exported, "--name", "a/b"],
        [exported, "--settings", tmp_path / "list.json"],
        [exported, "--settings", tmp_path / "odd.json"],
        [exported, "--outputs", "scores"],
        [exported, "--honeypot", tmp_path / "none.onnx"],
    ):
        doorward("serve", *words, *kept, code=2, parse=False)
