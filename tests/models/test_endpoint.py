"""The Open Inference Protocol client against a real server on this machine."""

from __future__ import annotations

import email.utils
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from doorward.errors import EndpointFailed, InvalidInput, ModelUnsuitable
from doorward.models import BlackBox, HttpBox
from doorward.models.responses import read_labels, read_scores
from doorward.models.transport import JsonClient, _asked_wait

Server = Callable[..., Any]


def brightest(images: Tensor) -> Tensor:
    return images.flatten(1).argmax(1) % 10


def box_of(server: Any, **options: Any) -> HttpBox:
    return HttpBox(server.url, model="model", **{"backoff": 0.01, "timeout": 5, **options})


IMAGES = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def test_labels_arrive_in_batches(inference_server: Server) -> None:
    server = inference_server(brightest, image_shape=(3, 4, 4))
    with box_of(server, batch_size=3) as box:
        asked: BlackBox = box
        assert torch.equal(asked.labels(IMAGES), brightest(IMAGES))
        assert [request["shape"][0] for request in server.requests] == [3, 3, 1]
        assert server.requests[0]["datatype"] == "FP32"
        assert box.labels(IMAGES[:0]).shape == (0,)
        assert box.num_classes is None
        assert box.describe() == {
            "kind": "http",
            "address": f"{server.url}/v2/models/model",
            "name": "model",
            "platform": "test",
            "versions": ["1"],
        }


def test_logits_are_read_as_their_maximum(inference_server: Server) -> None:
    server = inference_server(lambda images: images.flatten(1)[:, :5], logits=True, num_classes=5)
    box = box_of(server)
    assert box.num_classes == 5
    assert torch.equal(box.labels(IMAGES), IMAGES.flatten(1)[:, :5].argmax(1))


def test_a_server_that_takes_bytes_gets_bytes(inference_server: Server) -> None:
    images = (IMAGES * 255).round() / 255
    server = inference_server(brightest, input_datatype="UINT8")
    assert torch.equal(box_of(server).labels(images), brightest(images))


def test_pixels_arrive_exactly(inference_server: Server) -> None:
    seen: list[Tensor] = []
    server = inference_server(lambda images: seen.append(images) or brightest(images))
    box_of(server).labels(IMAGES)
    assert torch.equal(seen[0], IMAGES)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_passing_troubles_are_retried(inference_server: Server, failure: Any, status: int) -> None:
    server = inference_server(brightest, failures=[failure(status), failure(drop=True)])
    assert torch.equal(box_of(server).labels(IMAGES), brightest(IMAGES))


def test_retries_end(inference_server: Server, failure: Any) -> None:
    refusals = [failure(503, body=b'{"error": "model is loading"}') for _ in range(9)]
    server = inference_server(brightest, failures=refusals)
    with pytest.raises(EndpointFailed, match="HTTP 503: model is loading"):
        box_of(server, retries=2).labels(IMAGES)
    assert len(server.failures) == 6


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (400, "HTTP 400"),
        (401, "credentials"),
        (404, "model's name"),
        (413, "batch_size"),
        (302, "302"),
    ],
)
def test_refusals_are_not_retried(
    inference_server: Server, failure: Any, status: int, words: str
) -> None:
    server = inference_server(brightest, failures=[failure(status), failure(500)])
    with pytest.raises(EndpointFailed, match=words):
        box_of(server).labels(IMAGES)
    assert len(server.failures) == 1


def test_timeouts_are_retried_and_then_reported(inference_server: Server, failure: Any) -> None:
    server = inference_server(brightest, failures=[failure(delay=0.5)])
    box = box_of(server, timeout=0.2)
    assert torch.equal(box.labels(IMAGES), brightest(IMAGES))
    server.failures += [failure(delay=0.5), failure(delay=0.5)]
    with pytest.raises(EndpointFailed, match=r"did not answer in 0\.2 seconds: tried 2 time"):
        box_of(server, timeout=0.2, retries=1).labels(IMAGES)


def test_retry_after_is_honoured_as_seconds_and_as_a_date() -> None:
    assert _asked_wait("here", "3", 0.5) == 3
    assert _asked_wait("here", None, 0.5) == 0.5
    assert _asked_wait("here", "soon", 0.5) == 0.5
    date = email.utils.formatdate(time.time() + 20, usegmt=True)
    assert 15 < _asked_wait("here", date, 0.5) <= 20
    assert _asked_wait("here", email.utils.formatdate(0, usegmt=True), 0.5) == 0
    for header in ("3600", email.utils.formatdate(time.time() + 3600, usegmt=True)):
        with pytest.raises(EndpointFailed, match=r"asks to wait 3[56]"):
            _asked_wait("here", header, 0.5)


def test_waits_double_unless_the_server_says_how_long(
    inference_server: Server, failure: Any
) -> None:
    server = inference_server(
        brightest, failures=[failure(500), failure(500), failure(429, {"Retry-After": "7"})]
    )
    waits: list[float] = []
    client = JsonClient(backoff=0.5, sleep=waits.append)
    with pytest.raises(EndpointFailed, match="404"):
        client.request("POST", f"{server.url}/v2/models/other/infer", b"{}")
    assert waits == [0.5, 1.0, 7.0]


def test_nobody_listens_and_wrong_addresses() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = time.monotonic()
    with pytest.raises(EndpointFailed, match=r"could not be reached.*[Rr]efused.*server is up"):
        HttpBox(f"http://127.0.0.1:{port}", "m").labels(IMAGES)
    assert time.monotonic() - start < 2  # no retries: asking again does not help
    for url in ("http://127.0.0.1:port", "http://[::1", "http://a b"):
        with pytest.raises(EndpointFailed, match=r"cannot be called|could not be reached"):
            HttpBox(url, "m").labels(IMAGES)


@pytest.mark.parametrize(
    ("url", "model", "words"),
    [
        ("127.0.0.1:8000", "m", "no http"),
        ("http://127.0.0.1:8000", None, "names no model"),
        ("http://127.0.0.1:8000", "", "names no model"),
        ("http://127.0.0.1:8000/v2/models/a", "b", "names the model 'a'"),
    ],
)
def test_addresses_that_name_no_model(url: str, model: str | None, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        HttpBox(url, model)


def test_addresses_that_name_a_model() -> None:
    wanted = "HttpBox('http://host:1/v2/models/m')"
    for url in ("http://host:1", "http://host:1/", "http://host:1/v2", "http://host:1/v2/models/m"):
        assert repr(HttpBox(url, "m")) == wanted
    assert repr(HttpBox("http://host:1/v2/models/m/infer")) == wanted
    assert repr(HttpBox("http://me:secret@host:1", "m")) == wanted
    assert (
        repr(HttpBox("http://host:1", "a b/../c"))
        == "HttpBox('http://host:1/v2/models/a%20b%2F..%2Fc')"
    )
    for options in ({"timeout": 0}, {"retries": -1}, {"batch_size": 0}, {"max_bytes": 0}):
        with pytest.raises(InvalidInput):
            HttpBox("http://host:1", "m", **options)


def test_headers_are_sent_and_never_shown(inference_server: Server) -> None:
    server = inference_server(brightest)
    box = box_of(server, headers={"Authorization": "Bearer hush"})
    box.labels(IMAGES)
    assert all(sent["Authorization"] == "Bearer hush" for sent in server.headers)
    assert "hush" not in repr(box) + json.dumps(box.describe())


def test_images_of_another_size_are_refused_before_they_are_sent(inference_server: Server) -> None:
    server = inference_server(brightest, image_shape=(3, 8, 8))
    with pytest.raises(InvalidInput, match=r"takes \[-1, 3, 8, 8\]"):
        box_of(server).labels(IMAGES)
    assert server.requests == []


@pytest.mark.parametrize(
    "metadata",
    [
        {"name": "model"},
        {"inputs": []},
        {"inputs": {}, "outputs": []},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", 3]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [True]}]},
        {"inputs": [{"name": "x", "shape": [-1]}]},
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 4, 4]}], "outputs": 3},
    ],
)
def test_metadata_that_is_none(inference_server: Server, metadata: dict[str, Any]) -> None:
    with pytest.raises(EndpointFailed, match="does not describe a model"):
        box_of(inference_server(brightest, metadata=metadata)).labels(IMAGES)


def output(**changes: Any) -> dict[str, Any]:
    return {"name": "labels", "datatype": "INT64", "shape": [7], "data": [0] * 7, **changes}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({}, "outputs"),
        ({"outputs": []}, "among: nothing"),
        ({"outputs": 5}, "no list of tensors"),
        ({"outputs": [output(shape=[6], data=[0] * 6)]}, r"among: labels INT64 \[6\]"),
        ({"outputs": [output(data=[0] * 6)]}, "malformed"),
        ({"outputs": [output(data=[0.5] * 7)]}, "malformed"),
        ({"outputs": [output(data=["a"] * 7)]}, "malformed"),
        ({"outputs": [output(data=[None] * 7)]}, "malformed"),
        ({"outputs": [output(data=[True] * 7)]}, "malformed"),
        ({"outputs": [output(data=[10**30] * 7)]}, "malformed"),
        ({"outputs": [output(data=[-1] * 7)]}, "-1 is no class"),
        ({"outputs": [{"name": "labels", "datatype": "INT64", "shape": [7]}]}, "malformed"),
        ({"outputs": [output(datatype="BYTES", data=["cat"] * 7)]}, "no labels"),
        ({"outputs": [output(datatype="FP32", shape=[7, 2], data=[float("nan")] * 14)]}, "NaN"),
        ({"outputs": [output(datatype="FP32", shape=[7, 0], data=[])]}, "malformed|shape"),
        ({"outputs": [output(datatype="FP32", shape=[-1, 2], data=[0.0] * 12)]}, "answer to 7"),
        ([1, 2], "a JSON list"),
    ],
)
def test_nonsense_is_refused(inference_server: Server, answer: Any, words: str) -> None:
    server = inference_server(brightest, rewrite=lambda response: answer)
    with pytest.raises(EndpointFailed, match=words):
        box_of(server).labels(IMAGES)


def test_labels_beyond_the_classes_and_other_numbers_of_logits(inference_server: Server) -> None:
    wide = {"outputs": [output(name="logits", datatype="FP32", shape=[7, 3], data=[0.0] * 21)]}
    high = {"outputs": [output(data=[5] * 7)]}
    for answer, words in ((wide, "3 columns for 5"), (high, "5 is no class")):
        server = inference_server(
            brightest, logits=True, num_classes=5, rewrite=lambda response, a=answer: a
        )
        with pytest.raises(EndpointFailed, match=words):
            box_of(server).labels(IMAGES)


def test_labels_are_preferred_and_nested_data_is_read() -> None:
    logits = output(name="scores", datatype="FP32", shape=[2, 2], data=[[0.0, 1.0], [1.0, 0.0]])
    other = output(name="ages", shape=[2], data=[40, 50])
    labels = output(shape=[2, 1], data=[[3], [4]])
    assert read_labels({"outputs": [logits]}, 2, None).tolist() == [1, 0]
    assert read_labels({"outputs": [logits, other, labels]}, 2, None).tolist() == [3, 4]


def test_probabilities_are_read_from_logits_probabilities_and_named_outputs(
    inference_server: Server,
) -> None:
    scores = IMAGES.flatten(1)[:, :5] * 9 - 4
    expected = scores.softmax(1)
    for answer in (lambda images: images.flatten(1)[:, :5] * 9 - 4, lambda images: expected[:3]):
        server = inference_server(answer, logits=True, num_classes=5)
        found = box_of(server).probabilities(IMAGES[:3])
        assert torch.allclose(found, expected[:3], atol=1e-6)
        assert found.dtype == torch.float32
    assert box_of(server).probabilities(IMAGES[:0]).shape == (0, 5)
    assert box_of(server).input_shape is None
    server = inference_server(brightest, image_shape=(3, 4, 4))
    assert box_of(server).input_shape == (3, 4, 4)
    logits = output(name="logits", datatype="FP32", shape=[1, 2], data=[0.5, 0.1])
    chances = output(name="probabilities", datatype="FP32", shape=[1, 2], data=[0.5, 0.1])
    other = output(name="ages", shape=[1], data=[40])
    name, values = read_scores({"outputs": [logits, other, chances]}, 1)
    assert (name, values.tolist()) == ("probabilities", [[0.5, 0.1]])


@pytest.mark.parametrize(
    ("name", "outputs", "expected"),
    [
        ("logits", "auto", [0.5, 0.5]),  # in doubt, the name decides
        ("probabilities", "auto", [0.25, 0.25]),
        ("logits", "probabilities", [0.25, 0.25]),
        ("probabilities", "logits", [0.5, 0.5]),
    ],
)
def test_names_decide_where_values_leave_it_open(
    inference_server: Server, name: str, outputs: Any, expected: list[float]
) -> None:
    answer = {"outputs": [output(name=name, datatype="FP32", shape=[1, 2], data=[0.25, 0.25])]}
    server = inference_server(brightest, rewrite=lambda response: answer)
    assert box_of(server, outputs=outputs).probabilities(IMAGES[:1]).tolist() == [expected]


def test_probabilities_that_a_server_does_not_give(inference_server: Server) -> None:
    server = inference_server(brightest)
    with pytest.raises(ModelUnsuitable, match=r"labels only.*answers=\"label\""):
        box_of(server).probabilities(IMAGES)
    unnamed = {"outputs": [output(name="x", datatype="FP32", shape=[1, 2], data=[0.25, 0.25])]}
    server = inference_server(brightest, rewrite=lambda response: unnamed)
    with pytest.raises(ModelUnsuitable, match="could be logits or probabilities"):
        box_of(server).probabilities(IMAGES[:1])
    server = inference_server(brightest, rewrite=lambda response: {"outputs": []})
    with pytest.raises(EndpointFailed, match="no logits or probabilities"):
        box_of(server).probabilities(IMAGES[:1])
    with pytest.raises(InvalidInput, match="odds"):
        box_of(server, outputs="odds")


@pytest.mark.parametrize(
    "body", [b"<html>busy</html>", b"", b"\xff\xfe", b'{"outputs": ', b"[" * 99999]
)
def test_garbage_is_no_json(inference_server: Server, failure: Any, body: bytes) -> None:
    server = inference_server(brightest, failures=[failure(200, body=body)])
    with pytest.raises(EndpointFailed, match="answered what is no JSON"):
        box_of(server).labels(IMAGES)


def test_an_answer_too_large_is_not_read(inference_server: Server, failure: Any) -> None:
    server = inference_server(brightest, failures=[failure(200, body=b" " * 200_000)])
    with pytest.raises(EndpointFailed, match="more than 100000 bytes"):
        box_of(server, max_bytes=100_000).labels(IMAGES)


@contextmanager
def raw_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server below HTTP, for what http.server is too polite to do."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    talk(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_a_server_that_drips_is_left() -> None:
    def drip(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
        for _ in range(100):
            try:
                connection.sendall(b" ")
            except OSError:
                return
            time.sleep(0.05)

    with raw_server(drip) as url, pytest.raises(EndpointFailed, match="did not answer"):
        HttpBox(url, "m", timeout=0.2, retries=0).labels(IMAGES)


def test_a_server_that_speaks_something_else() -> None:
    with (
        raw_server(lambda connection: connection.sendall(b"SSH-2.0-OpenSSH\r\n")) as url,
        pytest.raises(EndpointFailed, match="broke the connection"),
    ):
        HttpBox(url, "m", retries=1, backoff=0).labels(IMAGES)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.just("labels") | JSON,
        "datatype": st.sampled_from(["INT64", "FP32", "BYTES"]) | JSON,
        "shape": st.sampled_from([[2], [2, 1], [2, 3], [-1, 2], []]) | JSON,
        "data": st.lists(st.integers(-1, 5) | st.floats(), max_size=6) | JSON,
    }
)


FUZZED = HttpBox("http://127.0.0.1:9", "m")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(TENSOR | JSON, max_size=3) | JSON)
def test_no_answer_breaks_the_reader(outputs: Any) -> None:
    box = FUZZED
    box._about = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 3, 4, 4]}]}
    box._client.request = lambda *arguments: {"outputs": outputs}
    try:
        labels = box.labels(IMAGES[:2])
    except EndpointFailed:
        return
    assert labels.shape == (2,)
    assert labels.dtype == torch.int64
    assert (labels >= 0).all()
