"""The document of the endpoints, and its page. Generated requests find no answer that it does not describe."""

import json
import re
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from serving.http.app import make_app
from serving.http.listener import Listener
from tests.serving.http.served_api import ServedApi
from tests.serving.kafka.fake_broker import FakeBroker


def document(served: ServedApi) -> dict[str, Any]:
    found: dict[str, Any] = served.client.get("/openapi.json").json()
    return found


def test_every_reference_leads_to_a_valid_schema(served: ServedApi) -> None:
    found = document(served)
    schemas = found["components"]["schemas"]
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    names = re.findall(r"#/components/schemas/([^\"]+)", json.dumps(found))
    assert len(names) > 50
    assert {*names} <= schemas.keys()


def test_features_are_described_wherever_an_event_has_them(served: ServedApi) -> None:
    """F65."""
    schemas = document(served)["components"]["schemas"]
    for name in ("EventRequest", "EventData", "LabelBody"):
        described = schemas[name]["properties"]["features"]
        validator = Draft202012Validator({"$defs": {}, **described})
        assert validator.is_valid({"amount": 12.5, "country": "nz"}), name
        assert not validator.is_valid({"amount": [12.5]}) and not validator.is_valid(["amount"]), name
    event = Draft202012Validator(schemas["EventRequest"])
    for body in ({"features": {"amount": 12.5}}, {"text": "a"}, {"text": "a", "features": {"country": "nz"}}):
        assert event.is_valid(body)
        assert served.client.post("/v1/predict", json=body).status_code in (200, 422)
    assert not event.is_valid({"text": "a", "features": {" ": 1}})


def test_every_path_of_the_application_is_described(served: ServedApi) -> None:
    app: Any = make_app(served.api)
    routes = {route.path for route in app._app.routes}
    assert routes - document(served)["paths"].keys() == {"/openapi.json", "/docs"}


def test_the_page_names_every_operation_and_loads_nothing(served: ServedApi) -> None:
    response = served.client.get("/docs")
    for path in document(served)["paths"]:
        assert path in response.text
    assert not re.findall(r"<script|src=|https?://", response.text)
    style = re.findall(r"<style>(.*)</style>", response.text)[0]
    assert b64encode(sha256(style.encode()).digest()).decode() in response.headers["content-security-policy"]


@pytest.fixture
def url() -> Iterator[str]:
    """The address of a real port, whose labels a broker takes."""
    open_publisher: Callable[[], Any] = FakeBroker().open
    with ServedApi(open_publisher=open_publisher).running() as served:
        served.pipeline.outbox.start()
        listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
        yield f"http://127.0.0.1:{listener.port}"
        listener.close()
        served.pipeline.outbox.close(5)


@pytest.mark.slow
def test_generated_requests_find_no_fault_and_no_answer_that_is_not_described(url: str, tmp_path: Path) -> None:
    """A deadline of a millisecond may well be over before the answer: that is no fault."""
    program = Path(sys.executable).with_name("schemathesis")
    expected = '["2xx", "3xx", "4xx", "504"]'
    (tmp_path / "schemathesis.toml").write_text(f"[checks.not_a_server_error]\nexpected-statuses = {expected}\n")
    checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
    arguments = ["run", f"{url}/openapi.json", "--checks", checks, "--max-examples", "20", "--seed", "7"]
    phases = ["--phases", "examples,coverage,fuzzing", "--no-color"]
    found = subprocess.run([program, *arguments, *phases], cwd=tmp_path, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout[-8_000:]
