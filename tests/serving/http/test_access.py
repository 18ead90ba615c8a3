"""Who may ask what, and under which name it is limited."""

from pathlib import Path

import httpx2
import pytest

from serving.http.access import Access, KeyFile, Role, create_key
from serving.http.problems import RequestRefused
from tests.serving.http.served_api import ServedApi, read_error, served_at
from tests.serving.kafka.fake_broker import FakeBroker
from wire.rate_limits import TokenBuckets
from wire.records import Answer

CLOUD_EVENT = {"specversion": "1.0", "id": "ticket-1", "type": "lifelong.event.v1", "data": {"text": "I love pizza"}}


@pytest.fixture
def texts(tmp_path: Path) -> dict[str, str]:
    """The texts of two keys, by their names, and a file of them."""
    roles = {"shop": [Role.PREDICT], "labeller": [Role.FEEDBACK]}
    return {name: create_key(tmp_path / "keys.json", name, of, now_ms=5)[1] for name, of in roles.items()}


@pytest.fixture
def access(texts: dict[str, str], tmp_path: Path) -> Access:
    return Access(keys=KeyFile(tmp_path / "keys.json"), limit=None)


def find_refusal(access: Access, headers: dict[str, str], role: Role | None) -> str:
    with pytest.raises(RequestRefused) as caught:
        access.client("203.0.113.7", headers, role)
    return f"{caught.value.problem.status.value} {caught.value.problem.code}"


@pytest.mark.parametrize("form", ["x-api-key: {}", "authorization: Bearer {}", "authorization: bearer  {}"])
def test_a_key_is_a_client_of_its_own(access: Access, texts: dict[str, str], form: str) -> None:
    name, _, value = form.format(texts["shop"]).partition(": ")
    assert access.client("203.0.113.7", {name: value}, Role.PREDICT).name == "shop"


def test_without_the_right_key_nothing_is_done(access: Access, texts: dict[str, str]) -> None:
    shop = {"x-api-key": texts["shop"]}
    assert find_refusal(access, {}, Role.PREDICT) == "401 unauthenticated"
    assert find_refusal(access, {"x-api-key": "a guess"}, None) == "401 unauthenticated"
    assert find_refusal(access, shop, Role.FEEDBACK) == "403 forbidden"
    assert access.client("203.0.113.7", shop, None).name == "shop"


def test_where_no_key_is_required_the_network_is_the_client() -> None:
    client = Access(keys=None, limit=None).client("2001:db8::7", {"x-api-key": "anything"}, Role.PREDICT)
    assert client.name == "2001:db8::/64"
    with pytest.raises(RequestRefused):
        client.require(Role.ADMIN)


def test_each_key_has_a_rate_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    one, two = (create_key(path, name, [Role.PREDICT], now_ms=5)[1] for name in ("one", "two"))
    with ServedApi(limit=TokenBuckets(rate=1, burst=2, max_keys=9), keys=KeyFile(path)).running() as served:

        def ask(key: str) -> int:
            response = served.client.post("/v1/predict", json={"text": "a"}, headers={"x-api-key": key})
            return int(response.status_code)

        assert [ask(key) for key in (one, one, one, two)] == [200, 200, 429, 200]
        assert read_error(served.client.post("/v1/predict", json={"text": "a"})) == "401 unauthenticated"
        assert read_error(served.client.get("/v1/status")) == "401 unauthenticated"
        assert served.client.get("/v1/health/ready").status_code == 200
        assert served.pipeline.counts.snapshot()["http_unauthenticated"] == 2


@pytest.mark.parametrize(
    ("name", "sources", "sent", "source", "own"),
    [
        ("shop", (), "/crm", "http/shop//crm", "http/shop"),
        ("shop", (), "http", "http/shop/http", "http/shop"),
        ("shop", ("/crm",), "/crm", "/crm", "http/shop"),
        ("shop", ("/crm",), "/crm2", "http/shop//crm2", "http/shop"),
        ("shop/a", (), "b", "http/shop%2Fa/b", "http/shop%2Fa"),
    ],
)
def test_the_source_of_an_event_is_below_the_name_of_its_key(
    tmp_path: Path, name: str, sources: tuple[str, ...], sent: str, source: str, own: str
) -> None:
    """N23, B5: an event in the name of the CRM would take the label that the CRM's event gets."""
    path = tmp_path / "keys.json"
    _, key = create_key(path, name, [Role.PREDICT], sources=sources, now_ms=5)
    broker = FakeBroker()
    with served_at(broker, keys=KeyFile(path)) as url:
        headers = {"x-api-key": key}
        structured = {**headers, "content-type": "application/cloudevents+json"}
        answer = httpx2.post(f"{url}/v1/events", json={**CLOUD_EVENT, "source": sent}, headers=structured).json()
        assert answer["source"] == source
        plain = httpx2.post(f"{url}/v1/predict", json={"text": "a", "source": sent}, headers=headers).json()
        assert plain["answers"][0]["source"] == own
    broker.close()
    assert [record.source for record, _ in broker.sent if isinstance(record, Answer)] == [source, own]


def test_without_keys_what_is_sent_stays_below_http() -> None:
    broker = FakeBroker()
    with served_at(broker) as url:
        structured = {"content-type": "application/cloudevents+json"}
        for sent, source in (("/crm", "http//crm"), ("x" * 1_000, f"http/{'x' * 1_000}")):
            answer = httpx2.post(f"{url}/v1/events", json={**CLOUD_EVENT, "source": sent}, headers=structured).json()
            assert answer["source"] == source
    broker.close()


def test_a_source_that_is_too_long_below_the_name_of_its_key_is_refused(tmp_path: Path) -> None:
    """The learner could not read the answer of such an event."""
    path = tmp_path / "keys.json"
    _, key = create_key(path, "n" * 100, [Role.PREDICT], now_ms=5)
    with ServedApi(keys=KeyFile(path)).running() as served:
        headers = {"x-api-key": key, "content-type": "application/cloudevents+json"}
        response = served.client.post("/v1/events", json={**CLOUD_EVENT, "source": "s" * 1_000}, headers=headers)
        assert read_error(response) == "422 wrong_schema"
