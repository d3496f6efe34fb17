"""One marked model in every form a suspect can take: the verdict is the same."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from doorward.bundles import Identity, save_model
from doorward.data import load
from doorward.errors import EndpointFailed, MissingData, ModelUnsuitable
from doorward.models import HttpBox, ModuleBox, create, export_onnx
from doorward.randomness import Secret
from doorward.training import Recipe
from doorward.watermark import KeyParameters, WatermarkKey, embed, make_claim, verify

SHAPE = (1, 16, 16)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    parameters = KeyParameters(n=25, image_shape=SHAPE, owner=ada.public.fingerprint)
    return WatermarkKey(Secret(b"k" * 32), parameters)


@pytest.fixture(scope="module")
def marked(key):
    model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
    digits = load("digits").sample(200, seed=0).resized(16)
    recipe = Recipe(epochs=20, batch_size=64, lr=0.1, precision="fp32")
    assert embed(model, digits, key, recipe).trigger_accuracy > 0.9
    return model


@pytest.fixture
def served(marked):
    """The model behind the Open Inference Protocol, on loopback."""
    shown = {
        "name": "net",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, *SHAPE]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 10]}],
    }

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self._send(shown)

        def do_POST(self):
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            given = request["inputs"][0]
            images = torch.tensor(given["data"]).reshape(given["shape"])
            with torch.no_grad():
                logits = marked(images)
            output = {
                "name": "logits",
                "datatype": "FP32",
                "shape": list(logits.shape),
                "data": logits.flatten().tolist(),
            }
            self._send({"model_name": "net", "outputs": [output]})

        def _send(self, content):
            body = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v2/models/net"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("form", ["module", "box", "callable", "bundle", "bundle name", "http"])
def test_every_form_of_suspect(form, marked, key, ada, tmp_path, request):
    suspect = marked
    if form == "box":
        suspect = ModuleBox(marked, batch_size=7)
    elif form == "callable":
        suspect = lambda images: marked(images).argmax(1).detach().numpy()  # noqa: E731
    elif form.startswith("bundle"):
        save_model(marked, tmp_path / "suspect.model")
        suspect = tmp_path / "suspect.model"
        suspect = str(suspect) if form == "bundle name" else suspect
    elif form == "http":
        suspect = request.getfixturevalue("served")
    _check(verify(make_claim(key, ada, alpha=1e-9), key, suspect, public=ada.public), marked, key)


def test_an_onnx_file(marked, key, ada, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    pytest.importorskip("onnxscript", reason="needs the extra [onnx]")
    export_onnx(marked, tmp_path / "suspect.onnx")
    verdict = verify(
        make_claim(key, ada, alpha=1e-9), key, tmp_path / "suspect.onnx", public=ada.public
    )
    _check(verdict, marked, key)


def _check(verdict, marked, key):
    images, labels = key.triggers()
    with torch.no_grad():
        expected = int((marked(images.float() / 255).argmax(1) == labels).sum())
    assert verdict.verified
    assert verdict.matches == expected
    assert verdict.suspect["kind"]


def test_suspects_that_are_not_there(key, ada, tmp_path):
    claim = make_claim(key, ada, alpha=1e-9)
    with pytest.raises(MissingData):
        verify(claim, key, tmp_path / "absent.model", public=ada.public)
    silent = HttpBox("http://127.0.0.1:9/v2/models/net", timeout=0.5, retries=0)
    with pytest.raises(EndpointFailed):
        verify(claim, key, silent, public=ada.public)


def test_a_bundle_with_other_classes_is_explained(key, ada, tmp_path):
    other = create("resnet8", classes=5, input_shape=SHAPE, width=4)
    save_model(other, tmp_path / "other.model")
    with pytest.raises(ModelUnsuitable, match="5 classes"):
        verify(make_claim(key, ada, alpha=1e-9), key, tmp_path / "other.model", public=ada.public)
