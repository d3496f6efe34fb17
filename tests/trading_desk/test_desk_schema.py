"""Requests made from the OpenAPI document, signed and not: no server error, and always as said."""

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)  # fmt: skip
from tests.trading_desk.conftest import make_scene, serving
from tests.trading_desk.goods import NOW

from doorward.serving.desk import create_app
from doorward.serving.desk.signatures import sign_request

load_all_checks()
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance,
    response_schema_conformance,
]  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory, ada, bob, desk_identity):
    folder = tmp_path_factory.mktemp("desk")
    scene = make_scene(
        folder / "d.sqlite", folder, desk_identity, ada, bob, requests_per_minute=10**6
    )
    scene.fund(cents=10**6)
    scene.app = create_app(scene.desk, sweep_seconds=None)
    scene.schema = schemathesis.openapi.from_dict(scene.app.openapi())
    with serving(scene.app) as scene.url, httpx.Client() as scene.http:
        yield scene
    scene.desk.verify()  # whatever was sent, the books and the log are whole
    scene.desk.database.close()


def send(site, case, signer):
    """The case as it is, signed by `signer`; about a deal that exists, every other time."""
    kwargs = case.as_transport_kwargs(base_url=site.url)
    kept = {k: kwargs.get(k) for k in ("params", "cookies")}
    body = {"content": kwargs.get("data")} if kwargs.get("json") is None else {}
    if kwargs.get("json") is not None:
        body = {"json": kwargs["json"]}
    headers = {k: str(v) for k, v in (kwargs.get("headers") or {}).items()}
    request = site.http.build_request(kwargs["method"], kwargs["url"], headers=headers, **body,
                                      **{k: v for k, v in kept.items() if v})  # fmt: skip
    if signer is not None:
        path = request.url.raw_path.decode()
        content = request.read()
        request.headers.update(
            sign_request(signer, site.desk.fingerprint, request.method, path, content, now=NOW)
        )
    return site.http.send(request)


def exercise(site, examples):
    deal = site.trying(serial=examples)
    for result in site.schema.get_all_operations():
        operation = result.ok()

        @given(case=operation.as_strategy(), who=st.sampled_from(["nobody", "seller", "buyer"]),
               real=st.booleans())  # fmt: skip
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def check(case, who, real):
            if real and "deal" in (case.path_parameters or {}):
                case.path_parameters["deal"] = deal
            response = send(site, case, getattr(site, who, None))
            case.validate_response(response, checks=CHECKS)

        check()


def test_every_operation_answers_as_documented(site):
    exercise(site, examples=4)


@pytest.mark.slow
def test_every_operation_answers_as_documented_for_long(site):
    exercise(site, examples=150)


def test_the_document_names_every_operation(site):
    paths = site.app.openapi()["paths"]
    assert "/v1/deals/{deal}/pay" in paths
    assert all(path.startswith("/v1/") for path in paths)
    refusals = {"401", "403", "409", "422", "429"}
    for operations in paths.values():
        for operation in operations.values():
            assert refusals <= set(operation["responses"])
