"""Whatever is sent, the answer is JSON with a status that says whose fault it is, never a 500."""

from __future__ import annotations

import asyncio
import json
import random

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.serving_gateway.gateways import House, asking, pictures

from doorward.serving.gateway import create_app
from doorward.serving.gateway.protocol import read_request
from doorward.serving.gateway.protocol.datatypes import DATATYPES
from doorward.serving.gateway.refusals import Refusal

FINE = {200, 400, 404, 405, 408, 411, 413, 415, 422, 429}


def patient(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


@pytest.fixture(scope="module")
def post(tmp_path_factory, graphs):
    """Send a body to a gateway without a socket, from code that is not asynchronous."""
    loop = asyncio.new_event_loop()
    house = House(tmp_path_factory.mktemp("malformed"), graphs, max_body=65_536, max_images=16)
    app = create_app(house.gateway())
    running = app.router.lifespan_context(app)
    loop.run_until_complete(running.__aenter__())
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://gateway")

    def send(content, headers=None, path="/v2/models/net/infer", method="POST"):
        request = client.request(method, path, content=content, headers=headers)
        return loop.run_until_complete(request)

    yield send
    assert send(json.dumps(asking(pictures(1))).encode()).status_code == 200  # it still answers
    assert app.state.gateway.log.check().intact
    loop.run_until_complete(client.aclose())
    loop.run_until_complete(running.__aexit__(None, None, None))
    loop.close()


def acceptable(response):
    assert response.status_code in FINE, (response.status_code, response.text)
    if response.status_code != 200:
        said = response.json()["error"]
        assert isinstance(said, str)
        assert said
        assert "Traceback" not in said


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["images", "FP32", "labels", "INT64", "BYTES", "\ud800", "\x00", "NaN"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=8,
)
PLACES = [
    (), ("inputs",), ("inputs", 0), ("inputs", 0, "name"), ("inputs", 0, "datatype"),
    ("inputs", 0, "shape"), ("inputs", 0, "shape", 0), ("inputs", 0, "data"),
    ("inputs", 0, "data", 3), ("inputs", 0, "parameters"), ("inputs", 1), ("outputs",),
    ("outputs", 0), ("outputs", 0, "name"), ("outputs", 0, "parameters"), ("id",), ("parameters",),
    ("parameters", "binary_data_output"), ("inputs", 0, "parameters", "binary_data_size"),
]  # fmt: skip


def replaced(request, place, value):
    """The request with one value put elsewhere; missing containers are made."""
    if not place:
        return value
    step, *rest = place
    if isinstance(step, int):
        request = list(request) if isinstance(request, list) else []
        request += [{}] * (step + 1 - len(request))
    else:
        request = dict(request) if isinstance(request, dict) else {}
        request.setdefault(step, {})
    request[step] = replaced(request[step], rest, value)
    return request


@patient(120)
@given(changes=st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=3))
def test_json_with_anything_anywhere(post, changes):
    request = asking(pictures(1))
    for place, value in changes:
        request = replaced(request, place, value)
    acceptable(post(json.dumps(request).encode()))


@patient(60)
@given(
    body=st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()),
    length=st.none() | st.integers(-2, 300).map(str) | st.text("0123456789-+e. ", max_size=30),
    encoding=st.none() | st.sampled_from(["gzip", "deflate", "identity", "br", "gzip, gzip", ""]),
)
def test_any_bytes_under_any_headers(post, body, length, encoding):
    headers = {"Inference-Header-Content-Length": length, "Content-Encoding": encoding}
    acceptable(post(body, {name: value for name, value in headers.items() if value is not None}))


@patient(60)
@given(data=st.data())
def test_binary_tensors_are_read_whole_or_refused(data):
    dtype = data.draw(st.sampled_from(sorted(DATATYPES)))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))
    values = np.frombuffer(
        data.draw(st.binary(min_size=8 * 256, max_size=8 * 256)), DATATYPES[dtype]
    )[: int(np.prod(shape))].reshape(shape)
    tensor = {"name": "x", "datatype": dtype, "shape": shape,
              "parameters": {"binary_data_size": values.nbytes}}  # fmt: skip
    head = json.dumps({"inputs": [tensor]}).encode()
    found = read_request(head + values.tobytes(), header_length=len(head)).inputs["x"]
    assert found.tobytes() == values.tobytes()
    assert (found.shape, found.dtype) == (values.shape, values.dtype)
    for change in (-1, 1):
        wrong = head + (values.tobytes() + b"\0" if change > 0 else values.tobytes()[:-1])
        if change > 0 or values.nbytes:
            with pytest.raises(Refusal):
                read_request(wrong, header_length=len(head))


JUNK = [b"-", b"9" * 400, b"null", b"[", b"}", b"\xff", b"1e999"]


def damaged(draw: random.Random) -> tuple[bytes, dict[str, str]]:
    """A good request, JSON or binary, with a few bytes changed, dropped or doubled."""
    images = pictures(1)
    request = asking(images)
    headers: dict[str, str] = {}
    if draw.random() < 0.5:
        del request["inputs"][0]["data"]
        request["inputs"][0]["parameters"] = {"binary_data_size": images.nbytes}
        head = json.dumps(request).encode()
        headers["Inference-Header-Content-Length"] = str(len(head) + draw.choice([0, 0, 0, 1, -1]))
        body = bytearray(head + images.tobytes())
    else:
        body = bytearray(json.dumps(request).encode())
    for _ in range(draw.randint(1, 4)):
        place = draw.randrange(min(len(body), 400) if draw.random() < 0.7 else len(body))
        kind = draw.randrange(4)
        if kind == 0:
            body[place] = draw.randrange(256)
        elif kind == 1:
            del body[place : place + draw.randint(1, 20)]
        elif kind == 2:
            body[place:place] = body[place : place + draw.randint(1, 20)]
        else:
            body[place:place] = draw.choice(
                [b"-", b"9" * 400, b"null", b"[", b"}", b"\xff", b"1e999"]
            )
    return bytes(body), headers


@pytest.mark.parametrize(
    "count", [150, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_damaged_requests(post, count):
    draw = random.Random(count)
    statuses = set()
    for _ in range(count):
        response = post(*damaged(draw))
        acceptable(response)
        statuses.add(response.status_code)
    assert {200, 400} <= statuses


@patient(40)
@given(
    parts=st.lists(st.text("abc/.%2e~é \x01", max_size=6) | st.sampled_from(
        ["v2", "models", "net", "versions", "infer", "ready", "health", "..", "metrics"]
    ), max_size=7),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS"]),
)  # fmt: skip
def test_any_address(post, parts, method):
    from urllib.parse import quote

    path = "/" + "/".join(quote(part) for part in parts).lstrip("/")
    response = post(b"{}", path=path, method=method)
    assert response.status_code in FINE | {307}
