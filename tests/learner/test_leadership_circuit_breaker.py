import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from learner.leadership import CircuitBreaker
from services.local.redis import LocalRedis, start_redis
from tests.learner.publish_rig import PublishRig
from tests.stores import KEYS
from tests.waiting import suspend
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store import Store

TIMEOUT_S = 0.4
TRIES = 3


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[LocalRedis]:
    server = start_redis(tmp_path / "redis")
    yield server
    server.process.send_signal(signal.SIGCONT)
    server.stop()


def test_an_outage_is_said_once_and_its_end_once() -> None:
    breaker = CircuitBreaker()
    error = StoreUnavailable("nobody is there")
    with capture_logs() as logs:
        for _ in range(3):
            breaker.trip(error)
        was_allowed = breaker.allows_requests
        for _ in range(3):
            breaker.reset()
    assert (was_allowed, breaker.allows_requests) == (False, True)
    assert [log["event"] for log in logs] == ["store_unavailable", "store_available"]


@pytest.mark.alone
@pytest.mark.live
def test_a_store_that_hangs_costs_one_timeout_and_not_one_for_each_question(redis: LocalRedis, tmp_path: Path) -> None:
    """B21: one iteration read commands and the version, renewed the lease, and reported: four timeouts."""
    store = Store(StoreConfig(url=redis.url, timeout_ms=int(1e3 * TIMEOUT_S)), KEYS)
    rig = PublishRig(store, tmp_path / "state")
    rig.publish()
    rig.learn(0, 30)
    suspend(redis.process.pid)
    started_s = time.monotonic()
    for _ in range(3):
        rig.now_s += 10.0
        rig.runner.poll()
        if rig.publisher.is_due():
            rig.publisher.publish()
        rig.publisher.checkpoint_if_due()
    assert time.monotonic() - started_s < 1.5 * TRIES * TIMEOUT_S
    store.close()
