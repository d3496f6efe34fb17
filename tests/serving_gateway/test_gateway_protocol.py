"""The Open Inference Protocol: tritonclient, our own client, bare requests; errors in JSON."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest
import torch
import tritonclient.http as triton
from tests.serving_gateway.gateways import (
    CLASSES,
    SHAPE,
    asking,
    labels,
    listening,
    pictures,
    scores,
)

from doorward.models import HttpBox, OnnxBox


def test_tritonclient_and_our_client_over_a_socket(house, graphs, files):
    """One server, every client call: the address is real, the rest of the tests need none."""
    key, images = house.add("ada"), pictures(5)
    box = OnnxBox(files.clean)
    expected = box.probabilities(torch.from_numpy(images)).numpy()
    headers = {"Authorization": f"Bearer {key}"}
    with listening(house.gateway()) as address:
        client = triton.InferenceServerClient(address)
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("net", headers=headers)
        assert client.is_model_ready("net", graphs.version, headers=headers)
        assert not client.is_model_ready("net")  # no key
        assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
        told = client.get_model_metadata("net", headers=headers)
        assert told["versions"] == [graphs.version]
        assert told["inputs"] == [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}]
        assert told["outputs"][0]["shape"] == [-1, CLASSES]

        for binary in (True, False):
            tensor = triton.InferInput("images", list(images.shape), "FP32")
            tensor.set_data_from_numpy(images, binary_data=binary)
            wanted = triton.InferRequestedOutput("probabilities", binary_data=binary)
            for packed in (None, "gzip", "deflate"):
                result = client.infer(
                    "net", [tensor], outputs=[wanted], headers=dict(headers), request_id="r1",
                    request_compression_algorithm=packed,
                )  # fmt: skip
                np.testing.assert_allclose(result.as_numpy("probabilities"), expected, atol=1e-6)
                assert result.as_numpy("labels") is None
                assert result.get_response()["id"] == "r1"
        everything = client.infer("net", [tensor], headers=dict(headers))
        assert everything.as_numpy("labels").tolist() == expected.argmax(1).tolist()
        tensor = triton.InferInput("images", list(images.shape), "UINT8")
        tensor.set_data_from_numpy((images * 255).astype(np.uint8))
        assert client.infer("net", [tensor], headers=dict(headers)).as_numpy("labels").size == 5
        with pytest.raises(triton.InferenceServerException, match="API key"):
            client.infer("net", [tensor], headers={})

        with HttpBox(f"http://{address}", model="net", headers=headers, batch_size=2) as asked:
            assert asked.num_classes == CLASSES
            assert asked.input_shape == SHAPE
            torch.testing.assert_close(
                asked.probabilities(torch.from_numpy(images)), torch.from_numpy(expected)
            )
            assert torch.equal(
                asked.labels(torch.from_numpy(images)), box.labels(torch.from_numpy(images))
            )


def test_answers_in_every_form(house):
    images = pictures(3)
    head = asking(images)
    del head["inputs"][0]["data"]
    head["inputs"][0]["parameters"] = {"binary_data_size": images.nbytes}
    head["outputs"] = [
        {"name": "labels"},
        {"name": "probabilities", "parameters": {"binary_data": True}},
    ]
    start = json.dumps(head).encode()

    async def scenario(ask, gateway):
        plain = await ask(images, id="mine")
        assert plain.json()["id"] == "mine"
        assert plain.json()["model_name"] == "net"
        nested = asking(images)
        nested["inputs"][0]["data"] = images.tolist()
        assert (scores(await ask(nested)) == scores(plain)).all()
        binary = await ask.client.post(
            f"/v2/models/net/versions/{gateway.graphs.version}/infer",
            content=start + images.tobytes(),
            headers={"Inference-Header-Content-Length": str(len(start))},
        )
        length = int(binary.headers["inference-header-content-length"])
        described = json.loads(binary.content[:length])
        assert binary.headers["content-type"] == "application/octet-stream"
        assert [item["name"] for item in described["outputs"]] == ["labels", "probabilities"]
        assert described["outputs"][0]["data"] == labels(plain)
        raw = np.frombuffer(binary.content[length:], "<f4").reshape(3, CLASSES)
        assert (raw == scores(plain)).all()
        packed = await ask.client.post(
            "/v2/models/net/infer",
            content=gzip.compress(json.dumps(asking(images)).encode()),
            headers={"Content-Encoding": "gzip"},
        )
        assert labels(packed) == labels(plain)
        assert (await ask.client.get("/openapi.json")).json()["paths"]["/v2/models/{name}/infer"]
        counted = (await ask.client.get("/metrics")).text
        assert "doorward_gateway_images_total 12.0" in counted
        assert 'doorward_gateway_requests_total{status="200"} 4.0' in counted

    house.run(scenario)


NAN = asking(pictures(1))
NAN["inputs"][0]["data"][0] = float("nan")
IMAGES = pictures(2)


def changed(**fields):
    request = asking(IMAGES)
    request["inputs"][0] |= fields
    return request


@pytest.mark.parametrize(
    ("request_", "status", "word"),
    [
        ([], 400, "an object is expected"),
        ({}, 400, "inputs"),
        ({"inputs": []}, 400, "inputs"),
        ({"inputs": [7]}, 400, "no object with a name"),
        ({"inputs": asking(IMAGES)["inputs"] * 2}, 400, "twice"),
        (changed(name="pictures"), 400, "called 'images'"),
        (changed(datatype="FP31"), 400, "known: BOOL"),
        (changed(datatype="BYTES"), 400, "known: BOOL"),
        (changed(datatype="INT64"), 400, "holds what is no int64"),
        (changed(datatype=["FP32"]), 400, "datatype"),
        (changed(shape=[2, 1, 8, 9]), 400, "128 elements"),
        (changed(shape=[-2, 1, 8, -8]), 400, "no list of 1 to 8 lengths"),
        (changed(shape=[2, 64]), 400, "the model takes"),
        (changed(shape=[0, 1, 8, 8], data=[]), 400, "no images"),
        (changed(shape=[2**31 - 1] * 8), 400, "elements"),
        (changed(shape=[True, 1, 8, 8]), 400, "lengths"),
        (changed(shape="big"), 400, "lengths"),
        (changed(data="1" * 128), 400, "no list of data"),
        (changed(data=["0.5"] * 128), 400, "no float32"),
        (changed(data=[None] * 128), 400, "no float32"),
        (changed(data=[[1.0], [1.0, 2.0]]), 400, "no tensor"),
        (changed(data=[10**400] * 128), 400, ""),
        (changed(data=[1e39] * 128), 400, "NaN or infinity"),
        (changed(data=[1.5] * 128), 400, "pixels span"),
        (changed(parameters=3), 400, "parameters is no object"),
        (changed(parameters={"binary_data_size": 512}), 400, "both data and binary"),
        (asking(IMAGES, outputs=[{"name": "logits"}]), 400, "there is no output 'logits'"),
        (asking(IMAGES, outputs=[{"name": "labels"}] * 2), 400, "twice"),
        (asking(IMAGES, outputs="labels"), 400, "outputs is no list"),
        (asking(IMAGES, parameters={"binary_data_output": 1}), 400, "neither true nor false"),
        (asking(IMAGES, id="\ud800"), 400, "id is no text"),
        (asking(IMAGES, id=5), 400, "id is no text"),
        (asking(pictures(9)), 413, "one request may hold 8"),
    ],
)
def test_requests_that_cannot_be_answered(house_of, request_, status, word):
    async def scenario(ask, gateway):
        response = await ask.client.post("/v2/models/net/infer", content=json.dumps(request_))
        assert response.status_code == status, response.text
        assert word in response.json()["error"]

    house_of(max_images=8).run(scenario)


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"", {}, 400),
        (b"{", {}, 400),
        (b"\xff\xfe", {}, 400),
        (b"[" * 10_000, {}, 400),
        (json.dumps(NAN).encode(), {}, 400),
        (b'{"inputs": ' + b"9" * 5000 + b"}", {}, 400),
        (b"{}" + bytes(9), {"Inference-Header-Content-Length": "2"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "99"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "-1"}, 400),
        (b"{}", {"Inference-Header-Content-Length": "two"}, 400),
        (b"{}", {"Content-Encoding": "br"}, 415),
        (b"{}", {"Content-Encoding": "gzip"}, 400),
        (gzip.compress(bytes(10**6)), {"Content-Encoding": "gzip"}, 413),
        (gzip.compress(b"{}", mtime=0)[:-9], {"Content-Encoding": "gzip"}, 400),
        (bytes(20_000), {}, 413),
    ],
)
def test_bodies_that_cannot_be_read(house_of, content, headers, status):
    async def scenario(ask, gateway):
        response = await ask.client.post("/v2/models/net/infer", content=content, headers=headers)
        assert response.status_code == status, response.text
        assert response.json()["error"]

    house_of(max_body=16_384).run(scenario)


def test_addresses_keys_and_late_bodies(house_of):
    house = house_of(receive_limit=0.05)
    house.add("ada")

    async def slowly():
        yield b"{"
        import asyncio

        await asyncio.sleep(5)

    async def scenario(ask, gateway):
        client = ask.client
        key = {"X-API-Key": house.keys["ada"]}
        for path, status in [
            ("/v2/models/net", 200),
            ("/v2/models/other", 404),
            ("/v2/models/net/versions/7", 404),
            ("/v2/models/net/versions/7/ready", 404),
            ("/nowhere", 404),
            ("/v2/models/net/infer", 405),
        ]:
            response = await client.get(path, headers=key)
            assert response.status_code == status
            assert status == 200 or response.json()["error"]
        for headers in ({}, {"Authorization": "Bearer dw_wrong"}, {"Authorization": "Basic x"}):
            for path in ("/v2/models/net", "/v2/models/net/ready", "/v2/models/other"):
                response = await client.get(path, headers=headers)
                assert response.status_code == 401
                assert response.headers["www-authenticate"] == "Bearer"
        refused = await client.post("/v2/models/net/infer", content=slowly(), headers=key)
        assert refused.status_code == 408
        assert (await client.get("/v2/health/live")).status_code == 200

    house.run(scenario)


def test_a_fault_of_ours_is_a_500_without_details(house):
    def broken(images):
        raise RuntimeError("secret details")

    async def scenario(ask, gateway):
        object.__setattr__(gateway.graphs, "clean", Broken(gateway.graphs.clean, broken))
        response = await ask(pictures(1))
        assert response.status_code == 500
        assert "secret" not in response.text

    class Broken:
        def __init__(self, graph, answer):
            self.graph, self.answer = graph, answer

        def __getattr__(self, name):
            return getattr(self.graph, name)

        def __call__(self, images):
            return self.answer(images)

    clean = house.graphs.clean
    try:
        house.run(scenario)
    finally:
        object.__setattr__(house.graphs, "clean", clean)


def test_not_ready_before_and_after(house):
    gateway = house.gateway()
    assert not gateway.ready

    async def scenario(ask, running):
        assert (await ask.client.get("/v2/health/ready")).status_code == 200
        gateway.ready = False  # as a signal does
        assert (await ask.client.get("/v2/health/ready")).status_code == 503
        assert (await ask.client.get("/v2/models/net/ready")).status_code == 503
        assert (await ask(pictures(1))).status_code == 200

    house.run(scenario, gateway)
