"""What a page of others may ask of a service that requires no keys: nothing, over real HTTP."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.http.access import KeyFile, Role, create_key
from serving.http.origin import Hosts, content_type_problem, sender_problem
from tests.serving.http.served_api import served_at
from tests.serving.kafka.fake_broker import FakeBroker
from wire.records import Feedback

LABEL = {"event_id": "x1", "label": "spam", "text": "how do I reset my password"}
JSON = {"content-type": "application/json"}
EVIL = {"origin": "https://evil.example"}


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    broker = FakeBroker()
    yield broker
    broker.close()


def post(url: str, path: str, body: object, headers: dict[str, str], *, host: str = "") -> tuple[int, str]:
    """Sends a request with exactly these headers, and a Host; returns its status and the code of its error."""
    address = url.removeprefix("http://")
    connection = http.client.HTTPConnection(address, timeout=30)
    content = json.dumps(body).encode()
    connection.putrequest("POST", path, skip_host=True)
    for name, value in {"host": host or address, "content-length": str(len(content)), **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(content)
    response = connection.getresponse()
    read = response.read()
    connection.close()
    return response.status, json.loads(read).get("error", {}).get("code", "")


@pytest.mark.parametrize(
    ("headers", "host", "status"),
    [
        ({**EVIL, "content-type": "text/plain"}, "", (403, "foreign_origin")),
        ({**EVIL, **JSON}, "", (403, "foreign_origin")),
        ({**EVIL}, "", (403, "foreign_origin")),
        ({"origin": "null", **JSON}, "", (403, "foreign_origin")),
        ({"origin": "http://[", **JSON}, "", (403, "foreign_origin")),
        ({"origin": "http://evil.example:8000", **JSON}, "evil.example:8000", (421, "foreign_host")),
        (JSON, "evil.example", (421, "foreign_host")),
        (JSON, "127.0.0.1.evil.example", (421, "foreign_host")),
        (JSON, "[", (421, "foreign_host")),
        ({"content-type": "text/plain"}, "", (415, "content_type")),
        ({"content-type": "application/x-www-form-urlencoded"}, "", (415, "content_type")),
        ({"content-type": "multipart/form-data; boundary=x"}, "", (415, "content_type")),
    ],
)
def test_no_page_of_others_teaches_or_asks(
    broker: FakeBroker, headers: dict[str, str], host: str, status: tuple[int, str]
) -> None:
    """N10: simple requests, forms, sandboxed pages, and a name that was bound to our address."""
    with served_at(broker) as url:
        assert post(url, "/v1/feedback", LABEL, headers, host=host) == status
        assert post(url, "/v1/predict", {"text": "a"}, headers, host=host) == status
        assert post(url, "/v1/feedback", LABEL, JSON) == (200, "")
    taught = [record for record, _ in broker.sent if isinstance(record, Feedback)]
    assert [record.label for record in taught] == ["spam"]


def test_programs_and_a_page_of_our_own_origin_do(broker: FakeBroker) -> None:
    with served_at(broker) as url:
        for headers in ({}, JSON, {"origin": url, **JSON}, {"content-type": "application/json; charset=utf-8"}):
            assert post(url, "/v1/predict", {"text": "a"}, headers) == (200, "")
        port = url.rpartition(":")[2]
        assert post(url, "/v1/predict", {"text": "a"}, JSON, host=f"localhost:{port}") == (200, "")


def test_a_key_says_who_asks_whatever_the_page(broker: FakeBroker, tmp_path: Path) -> None:
    """A page has no key of ours, and a browser sends none by itself."""
    path = tmp_path / "keys.json"
    _, key = create_key(path, "shop", [Role.PREDICT], now_ms=5)
    with served_at(broker, keys=KeyFile(path)) as url:
        named = {"x-api-key": key, **EVIL, "content-type": "text/plain"}
        assert post(url, "/v1/predict", {"text": "a"}, named, host="shop.example") == (200, "")
        assert post(url, "/v1/predict", {"text": "a"}, EVIL)[0] == 401


@pytest.mark.parametrize(
    ("hosts", "host", "is_refused"),
    [
        ("loopback", "[::1]:8000", False),
        ("loopback", "192.0.2.7:8000", True),
        ("addresses", "192.0.2.7:8000", False),
        ("addresses", "evil.example:8000", True),
        ("any", "page.example", False),
    ],
)
def test_an_origin_that_equals_the_host_counts_if_the_host_is_one_of_ours(
    hosts: Hosts, host: str, is_refused: bool
) -> None:
    """DNS rebinding: the page of evil.example asks us by its own name."""
    own = {"host": host, "origin": f"http://{host}"}
    assert (sender_problem(own, hosts=hosts) is not None) is is_refused
    assert sender_problem({**own, **EVIL}, hosts=hosts) is not None


def test_beyond_this_machine_a_program_may_use_any_name() -> None:
    """The service has a name there, such as that of a Service of Kubernetes."""
    assert sender_problem({"host": "replicas:8000"}, hosts="addresses") is None


def test_the_types_of_cloud_events_and_of_tensors_are_taken() -> None:
    for kind in ("application/cloudevents+json; charset=utf-8", "application/octet-stream"):
        assert content_type_problem({"content-type": kind}) is None
