"""The HTTP application over a real engine, as the tests of its endpoints ask it."""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any, TypeAlias

from starlette.testclient import TestClient

from serving.errors import Unhealthy
from serving.http.access import Access, KeyFile
from serving.http.api import Api
from serving.http.app import make_app
from serving.http.bridge import RequestBridge
from serving.http.listener import Listener
from serving.http.requests import Bodies
from serving.pipeline import make_encode
from serving.predict import Predict
from serving.served_task import ReplicaStatus
from tests.serving.kafka.fake_broker import FakeBroker
from tests.serving.pipelines import PREDICT, make_pipeline, no_broker
from tests.serving.versions import RECEIPTS, live_versions, tokenizer
from wire.bus import Publisher
from wire.label_set import LabelSet
from wire.rate_limits import TokenBuckets
from wire.records import MAX_EVENT_BYTES

Response: TypeAlias = Any  # the test client has an httpx2 of its own


@dataclass
class ServedApi:
    """An application over an engine. Answers to publish stay in the outbox, which is not started.

    A test may replace `encode` and `labels`, and give reasons for which the replica is not healthy.
    """

    limit: TokenBuckets | None = None
    keys: KeyFile | None = None
    predict: Predict = PREDICT
    max_queue_items: int = 64
    timeout_s: float = 10.0
    open_publisher: Callable[[], Publisher] = no_broker
    health: list[str] = field(default_factory=list)
    labels: LabelSet = field(default_factory=LabelSet)
    bodies: Bodies = field(default_factory=lambda: Bodies(max_bytes=2 * MAX_EVENT_BYTES))

    def __post_init__(self) -> None:
        self.encode = make_encode(tokenizer(), lambda: 64)
        self.pipeline = make_pipeline(
            lambda texts: self.encode(texts),
            predict=self.predict,
            max_queue_items=self.max_queue_items,
            open_publisher=self.open_publisher,
        )
        ids = count()
        self.api = Api(
            bridge=RequestBridge(pipeline=self.pipeline, timeout_s=self.timeout_s),
            bodies=self.bodies,
            access=Access(keys=self.keys, limit=self.limit),
            receipts=RECEIPTS,
            labels=lambda task: self.labels,
            max_events=10,
            check=self._check,
            status=self._status,
            now_ms=lambda: 5,
            new_id=lambda: f"new{next(ids)}",
        )
        self.client = TestClient(make_app(self.api), base_url="http://127.0.0.1", raise_server_exceptions=False)

    @contextmanager
    def running(self) -> Iterator["ServedApi"]:
        """Yields it while its engine answers with version 1."""
        self.pipeline.engine.activate(live_versions([1]))
        self.pipeline.engine.start()
        yield self
        self.drain()

    def drain(self) -> None:
        """Lets the engine answer what still waits, and end."""
        self.pipeline.queue.close()
        self.pipeline.engine.join(20)

    def _check(self) -> None:
        if self.health:
            raise Unhealthy(self.health[0])

    def _status(self) -> ReplicaStatus:
        return ReplicaStatus(
            replica="r1",
            swap="waiting",
            queue=self.pipeline.queue.state.value,
            revision=0,
            stand_in=0,
            arms=(),
            num_labels={},
            forwards={},
            queue_items=len(self.pipeline.queue),
            open_events=0,
            swaps=0,
            swap_stalls_ms=(),
            swap_pauses_ms=(),
            refused={},
            counts=self.pipeline.counts.snapshot(),
        )


@contextmanager
def served_at(broker: FakeBroker, **options: Any) -> Iterator[str]:
    """Serves by HTTP with these options, and yields the URL; `broker` gets what is published."""
    served = ServedApi(open_publisher=broker.open, **options)  # type: ignore[arg-type]
    with served.running():
        served.pipeline.outbox.start()
        listener = Listener(make_app(served.api), host="127.0.0.1", port=0, drain_timeout_s=1)
        with closing(listener):
            yield f"http://127.0.0.1:{listener.port}"
        served.pipeline.outbox.close(5)


def read_error(response: Response) -> str:
    """Returns the status and the code of an error, which has a message and names its request."""
    error = response.json()["error"]
    assert error["request_id"] == response.headers["x-request-id"]
    assert error["message"]
    return f"{response.status_code} {error['code']}"
