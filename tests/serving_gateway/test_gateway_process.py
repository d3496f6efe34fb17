"""The real process: killed, stopped, reloaded, told by signals; and what its commands say."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import numpy as np
import pytest
from tests.serving_gateway.gateways import asking, labels, pictures, scores, write_linear

from doorward.errors import InvalidInput
from doorward.serving.database import Database
from doorward.serving.gateway import EvidenceLog, Graphs, Sources, read_secret, revoke_tenant


@dataclass
class Running:
    """A gateway in a process of its own."""

    process: subprocess.Popen
    url: str
    folder: object

    def log(self) -> EvidenceLog:
        return EvidenceLog(
            Database(self.folder / "evidence.sqlite"), read_secret(self.folder / "gateway.secret")
        )


@contextmanager
def served(folder, *words) -> Iterator[Running]:
    command = [
        sys.executable, "-m", "doorward", "serve", folder / "net.onnx", "--port", "0", "--json",
        "--database", folder / "evidence.sqlite", "--secret", folder / "gateway.secret",
        "--reload-every", "0.05", "--threads", "1", *words,
    ]  # fmt: skip
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        told = process.stdout.readline()
        assert told, process.stderr.read()
        yield Running(process, json.loads(told)["url"], folder)
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def folder(tmp_path, files):
    shutil.copy(files.clean, tmp_path / "net.onnx")
    return tmp_path


def test_killed_it_has_lost_no_acknowledged_row_and_terminated_no_request(folder):
    acknowledged: list[str] = []
    body = pictures(4)

    def client(name: int) -> None:
        with httpx.Client() as connection:
            for number in range(10_000):
                identity = f"{name}-{number}"
                try:
                    answer = connection.post(
                        f"{url}/infer", json=asking(body, id=identity), timeout=60
                    )
                except httpx.HTTPError:
                    return
                assert answer.status_code in (200, 503)
                if answer.status_code == 200:
                    acknowledged.append(identity)

    def flood() -> list[threading.Thread]:
        acknowledged.clear()
        threads = [threading.Thread(target=client, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        while len(acknowledged) < 20:
            assert any(thread.is_alive() for thread in threads)
            time.sleep(0.01)
        return threads

    for how in (signal.SIGKILL, signal.SIGTERM):
        with served(folder) as running:
            url = running.url
            threads = flood()
            running.process.send_signal(how)
            for thread in threads:
                thread.join()
            running.process.wait(60)
            assert running.process.returncode == (-9 if how == signal.SIGKILL else 0)
        log = running.log()
        written = [json.loads(row.facts)["id"] for row in log.rows()]
        assert log.check().intact
        if how == signal.SIGKILL:
            assert set(acknowledged) <= set(written)
            before = len(written)
        else:  # a graceful end answers all that it wrote down
            assert sorted(acknowledged) == sorted(written[before:])
        assert log.account("anybody").used == 4 * len(written)


def test_a_new_model_and_a_revoked_tenant_are_noticed_while_requests_run(house, files, tmp_path):
    model = tmp_path / "net.onnx"
    shutil.copy(files.clean, model)
    key = house.add("ada")
    sources = Sources(model=model, tenants=house.tenants, threads=1)
    house.graphs = sources.graphs()
    old = house.graphs
    new = Graphs.load(files.other, threads=1)
    images = pictures(3)
    expected = {old.version: old.clean(images), new.version: new.clean(images)}

    async def scenario(ask, gateway):
        following = asyncio.create_task(sources.follow(gateway, every=0.02))
        seen = []

        async def client():
            while new.version not in seen:
                answer = await ask(images, "ada")
                assert answer.status_code == 200, answer.text
                version = answer.json()["model_version"]
                np.testing.assert_allclose(scores(answer), expected[version], atol=1e-6)
                seen.append(version)

        clients = [asyncio.create_task(client()) for _ in range(4)]
        await asyncio.sleep(0.05)
        model.write_bytes(b"half a file")  # noticed, refused, survived
        await asyncio.sleep(0.1)
        assert gateway.graphs.version == old.version
        shutil.copy(files.other, tmp_path / "next.onnx")
        os.replace(tmp_path / "next.onnx", model)
        await asyncio.wait_for(asyncio.gather(*clients), 60)
        assert set(seen) == {old.version, new.version}

        assert gateway.tenant(key).name == "ada"
        revoke_tenant(house.tenants, "ada")
        for _ in range(200):
            if (await ask(images, "ada")).status_code == 401:
                break
            await asyncio.sleep(0.02)
        else:
            pytest.fail("the revoked tenant may still ask")
        with pytest.raises(InvalidInput, match="same signature"):
            gateway.reload(Graphs.load(write_linear(tmp_path / "wide.onnx", side=4), threads=1))
        following.cancel()
        assert gateway.log.check().intact

    house.run(scenario)


def test_limits_of_time(house_of, graphs):
    house = house_of(time_limit=0.05)

    async def scenario(ask, gateway):
        slow = Slow(gateway.graphs.clean)
        object.__setattr__(gateway, "graphs", Graphs(slow, ()))
        answer = await ask(pictures(1))
        assert answer.status_code == 503
        assert "within 0.05 seconds" in answer.json()["error"]
        assert answer.headers["retry-after"] == "1"

    class Slow:
        def __init__(self, graph):
            self.graph = graph

        def __getattr__(self, name):
            return getattr(self.graph, name)

        def __call__(self, images):
            time.sleep(0.3)
            return self.graph(images)

    house.run(scenario)


def test_no_answer_without_its_row(house):
    async def scenario(ask, gateway):
        assert (await ask(pictures(1))).status_code == 200

        def broken(entries):
            raise OSError("no space left")

        append, gateway.log.append = gateway.log.append, broken
        refused = await ask(pictures(1))
        assert refused.status_code == 503
        assert "not given" in refused.json()["error"]
        assert "outputs" not in refused.json()
        gateway.log.append = append
        assert labels(await ask(pictures(1)))
        assert gateway.log.check().rows == 2
        assert gateway.log.account("anybody").used == 2

    house.run(scenario)
