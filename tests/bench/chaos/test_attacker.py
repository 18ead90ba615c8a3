"""The attacker runs every attack, the service accepts only allowed requests, and an accepted forbidden one is found."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from bench.chaos.attacker import Attacker, AttackReport
from bench.chaos.scene import SOURCE
from serving.http.access import KeyFile, Role, create_key
from tests.serving.http.served_api import served_at
from tests.serving.kafka.fake_broker import FakeBroker
from wire.rate_limits import TokenBuckets
from wire.records import Answer, Feedback

ATTACKS = {
    "foreign_source",
    "forged_receipt",
    "stolen_receipt",
    "no_receipt",
    "correction",
    "no_key",
    "cross_origin",
    "flip",
    "flood",
}
REFUSED = ("forged_receipt", "stolen_receipt", "correction", "no_key", "cross_origin")


def attacked(url: str, key: str = "") -> AttackReport:
    """Runs each attack once; returns the report."""
    at_once = threading.Event()
    at_once.set()
    return Attacker(url, key, 7).run(at_once)


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    broker = FakeBroker()
    yield broker
    broker.close()


def test_the_service_takes_nothing_in_the_name_of_others(broker: FakeBroker, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, key = create_key(path, "mallory", [Role.PREDICT, Role.FEEDBACK], now_ms=5)
    limit = TokenBuckets(rate=0.001, burst=12, max_keys=9)
    with served_at(broker, keys=KeyFile(path), limit=limit) as url:
        tried = attacked(url, key)
    assert tried.requests.keys() == ATTACKS | {"ask"}
    assert not tried.breaches and not tried.num_unreachable
    assert not [attack for attack in REFUSED if tried.taken[attack]]
    # A flood gets 422, because this service allows fewer events in a request.
    assert tried.statuses.keys() == {200, 401, 403, 422}
    taught = [record for record, _ in broker.sent if isinstance(record, Feedback)]
    assert [(label.attack, label.event_id) for label in tried.labels] == [
        ("no_receipt" if not record.receipt else "flip", record.event_id) for record in taught
    ]
    assert {record.source for record in taught} == {"mallory"}
    assert {record.source for record, _ in broker.sent if isinstance(record, Answer)} == {
        "http/mallory",
        f"http/mallory/{SOURCE}",
    }


def test_a_flood_beyond_the_rate_is_refused(broker: FakeBroker, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, key = create_key(path, "mallory", [Role.PREDICT, Role.FEEDBACK], now_ms=5)
    with served_at(broker, keys=KeyFile(path), limit=TokenBuckets(rate=0.001, burst=1, max_keys=9)) as url:
        tried = attacked(url, key)
    assert tried.statuses[429] > 0
    assert len(tried.labels) <= 1


def test_an_accepted_forbidden_request_is_a_breach() -> None:
    """The service accepts every request: each forbidden one is a breach."""
    with _takes_everything() as url:
        tried = attacked(url)
    assert {breach.partition(":")[0] for breach in tried.breaches} == {"foreign_source", *REFUSED}
    assert {label.attack for label in tried.labels} >= {"no_receipt", "flip"}


def test_an_unreachable_service_is_counted() -> None:
    tried = attacked("http://127.0.0.1:1")
    assert tried.num_unreachable == len(ATTACKS) and not tried.taken.total()


class _Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        answer = (
            b'{"event_id": "e", "source": "s", "key": "", "receipt": "r", "label": "a", "scores": [["a", 1], ["b", 0]]}'
        )
        content = b'{"source": "%s", "answers": [%s]}' % (SOURCE.encode(), answer)
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Logs nothing."""


@contextmanager
def _takes_everything() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
