"""Study `gateway-load`: what the gateway costs beside ONNX Runtime in the same process.

    doorward bench run gateway-load --tier cpu

The gateway runs in a process of its own, with tenants, monitors and evidence as in production; this
process asks it over HTTP with binary tensors, several requests at a time. Before and after each
turn the same file is run in-process with the same batch on as many threads, so that a machine that
slows down slows down both; turns of a clean and of a honeypot tenant alternate.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from doorward.benchmarks.study import Cell, Grid, Metric, study
from doorward.data import load, to_pixels
from doorward.errors import EndpointFailed
from doorward.files import write_json
from doorward.models import create, export_onnx, find_head
from doorward.randomness import generator, numpy_generator

__all__ = ["GOALS", "gateway_load"]

GOALS = (0.8, 0.02)
"""Least share of the in-process throughput; largest distance of honeypot / clean from 1."""

_WARM_UP = 0.25  # of the seconds of a turn, not counted


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = {"dataset": "digits", "architecture": "resnet8", "width": 8, "size": 16,
                   "channels": 1, "batch": 16, "clients": 2, "seconds": 2.0,
                   "turns": 1}  # fmt: skip
        return Grid(
            methods=("gateway",),
            settings={"resnet8 (width 8), 16x16, batches of 16": options},
            shrinks="A network of a few thousand weights and one short turn: this checks that the "
            "study works, and measures little but HTTP.",
        )
    length = 12.0 if tier == "cpu" else 60.0
    options = {"dataset": "digits", "architecture": "resnet18", "width": None, "size": 32,
               "channels": 3, "batch": 32, "clients": 4, "seconds": length, "turns": 4}  # fmt: skip
    return Grid(
        methods=("gateway",),
        settings={
            "resnet18, 32x32, batches of 32": options,
            "resnet8, 32x32, batches of 32": {**options, "architecture": "resnet8"},
            "resnet18, 32x32, single images": {**options, "batch": 1, "clients": 32},
        },
        shrinks="Turns of 12 seconds instead of 60." if tier == "cpu" else "",
    )


@study(
    "gateway-load",
    version=1,
    title="Serving: the gateway under load",
    question="What does serving through the gateway cost, and does the honeypot cost more?",
    grid=_grid,
    notes="Throughput counts images answered per second once the first quarter of a turn is over; "
    "in-process is ONNX Runtime alone with the same batch. The share is of the medians over turns. "
    "With single images the gateway gathers batches, which ONNX Runtime alone does not, so its "
    "share may exceed one. Client, gateway and inference share the machine's cores. The goal is a "
    "share of 0.8 and a ratio of honeypot to clean of 1.00 within 0.02.",
    metrics=(
        Metric("share", "Gateway / in-process", "percent", "higher", plot=True),
        Metric("images_per_second", "Images/s", "number", "higher"),
        Metric("in_process", "In-process images/s"),
        Metric("honeypot_ratio", "Honeypot / clean", "ratio"),
        Metric("p50_ms", "p50 (ms)", "number", "lower"),
        Metric("p99_ms", "p99 (ms)", "number", "lower"),
        Metric("rows", "Evidence rows"),
        Metric("goal_met", "Goal met", "yesno"),
    ),
)
def gateway_load(cell: Cell) -> dict[str, Any]:
    """Serve a network from another process, and ask it as fast as it answers."""
    from doorward.serving.gateway import Graph, add_tenant

    options = cell.options
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_models(folder, options, cell.seed)
        keys = {
            kind: add_tenant(folder / "tenants.json", kind, stage=stage)
            for kind, stage in (("clean", 0), ("honeypot", 1))
        }
        graph = Graph(folder / "clean.onnx", threads=os.cpu_count() or 1)
        pixels = load(
            options["dataset"], size=options["size"], channels=options["channels"]
        ).sample(options["batch"], seed=cell.seed, balanced=False)
        images = to_pixels(pixels.fetch(torch.arange(options["batch"]))[0]).cpu().numpy()
        alone: list[float] = []
        served: dict[str, list[float]] = {"clean": [], "honeypot": []}
        times: list[float] = []
        with _served(folder) as url:
            for turn in range(options["turns"]):
                kinds = list(served) if turn % 2 == 0 else list(served)[::-1]
                for kind in kinds:
                    alone.append(_in_process(graph, images, options["seconds"] / 2))
                    rate, taken = asyncio.run(_load(url, keys[kind], images, options))
                    served[kind].append(rate)
                    times += taken if kind == "clean" else []
            alone.append(_in_process(graph, images, options["seconds"] / 2))
        rows = _rows(folder)
    clean, honeypot = (float(np.median(served[kind])) for kind in ("clean", "honeypot"))
    share, ratio = clean / float(np.median(alone)), honeypot / clean
    p50, p99 = np.percentile(times, [50, 99]) * 1000
    return {
        "share": share,
        "images_per_second": clean,
        "in_process": float(np.median(alone)),
        "honeypot_ratio": ratio,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "rows": rows,
        "goal_met": share >= GOALS[0] and abs(ratio - 1) <= GOALS[1],
    }


def _write_models(folder: Path, options: dict[str, Any], seed: int) -> None:
    """A network, and the same with another head: what a honeypot is to a runtime."""
    # The monitors work, but never move the tenants, who ask about the same images all the time.
    write_json(folder / "settings.json", {"monitors": {"prada": {"delta": 1e-9}}})
    width = {} if options["width"] is None else {"width": options["width"]}
    shape = (options["channels"], options["size"], options["size"])
    model = create(options["architecture"], classes=10, input_shape=shape, seed=seed, **width)
    export_onnx(model, folder / "clean.onnx")
    _, head = find_head(model)
    with torch.no_grad():
        for parameter in head.parameters():
            draw = generator(seed, "head", parameter.ndim)
            parameter.add_(torch.randn(parameter.shape, generator=draw), alpha=0.1)
    export_onnx(model, folder / "honeypot.onnx")


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    command = [
        sys.executable, "-m", "doorward", "serve", str(folder / "clean.onnx"), "--json",
        "--honeypot", str(folder / "honeypot.onnx"), "--tenants", str(folder / "tenants.json"),
        "--database", str(folder / "evidence.sqlite"), "--secret", str(folder / "gateway.secret"),
        "--settings", str(folder / "settings.json"), "--port", "0",
    ]  # fmt: skip
    with (folder / "log.txt").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(  # noqa: S603 - our own command, on files of our own
            command, stdout=subprocess.PIPE, stderr=log, text=True
        )
        try:
            told = process.stdout.readline() if process.stdout else ""
            if not told:
                log.seek(0)
                raise EndpointFailed("the gateway did not start", why=log.read()[-500:])
            yield str(json.loads(told)["url"])
        finally:
            process.terminate()
            process.communicate()


def _in_process(graph: Any, images: Any, seconds: float) -> float:
    """Images per second of ONNX Runtime alone."""
    warm = time.perf_counter() + _WARM_UP * seconds
    while time.perf_counter() < warm:
        graph(images)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        graph(images)
        count += len(images)
    return count / (time.perf_counter() - start)


async def _load(
    url: str, key: str, images: Any, options: dict[str, Any]
) -> tuple[float, list[float]]:
    """Images per second of the gateway, and the seconds of every request."""
    import httpx

    tensor = {
        "name": "images",
        "shape": list(images.shape),
        "datatype": "FP32",
        "parameters": {"binary_data_size": images.nbytes},
    }
    request = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    head = json.dumps(request).encode()
    headers = {
        "Authorization": f"Bearer {key}",
        "Inference-Header-Content-Length": str(len(head)),
    }
    times: list[float] = []
    draw = numpy_generator(0, "load")  # every request asks something new, as thieves do

    async def ask(connection: httpx.AsyncClient) -> None:
        shift = np.float32(draw.random())
        body = head + np.mod(images + shift, np.float32(1)).tobytes()
        answer = await connection.post(f"{url}/infer", content=body, headers=headers)
        if answer.status_code != 200:
            raise EndpointFailed("the gateway refused a request", why=answer.text[:200])

    async def client(connection: httpx.AsyncClient, counted_from: float, end: float) -> None:
        while (start := time.perf_counter()) < end:
            await ask(connection)
            finished = time.perf_counter()
            if counted_from <= finished <= end:
                times.append(finished - start)

    async with httpx.AsyncClient(timeout=60) as connection:
        await ask(connection)
        begin = time.perf_counter() + _WARM_UP * options["seconds"]
        end = begin + options["seconds"]
        await asyncio.gather(*(client(connection, begin, end) for _ in range(options["clients"])))
    if not times:
        raise EndpointFailed(
            "no request was answered in time",
            why=f"the turn has {options['seconds']:g} seconds",
            remedy="run it on a machine that is less busy",
        )
    return len(times) * len(images) / options["seconds"], times


def _rows(folder: Path) -> int:
    """Rows of evidence; the whole chain is followed, so a broken one ends the study."""
    from doorward.serving.database import Database
    from doorward.serving.gateway import EvidenceLog, read_secret

    secret = read_secret(folder / "gateway.secret")
    check = EvidenceLog(Database(folder / "evidence.sqlite"), secret).check()
    if not check.intact:
        raise EndpointFailed("the evidence log is broken", why=check.problem or "")
    return check.rows
