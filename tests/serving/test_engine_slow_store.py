"""F2C: a slow store delays only the thread that loads from it."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from bench.chaos.faults import TOXICS, network_fault
from bench.chaos.programs import redis_argv
from bench.chaos.toxiproxy import Proxy, Toxiproxy
from services.local import children
from services.local.logfile import RotatingLog
from serving.engine import Engine
from serving.queue import BatchQueue, Item
from tests.serving.callers import Caller, running
from tests.serving.versions import TinyPublisher
from tests.serving.weights.swaps import make_swap, served
from tests.stores import KEYS
from tests.waiting import eventually
from wire.config import StoreConfig
from wire.errors import StoreUnavailable
from wire.store import Store

pytestmark = pytest.mark.live


@pytest.fixture
def redis_behind(toxiproxy: Toxiproxy, tmp_path: Path) -> Iterator[tuple[str, Proxy]]:
    """Yields the address of a Redis, and a slow proxy to it."""
    port = children.free_port()
    process = children.start(
        redis_argv(tmp_path, port, appendfsync="everysec"), log=RotatingLog(tmp_path / "redis.log")
    )
    yield f"redis://127.0.0.1:{port}/0", toxiproxy.proxy("redis", f"127.0.0.1:{port}")
    children.stop(process)


def opened(url: str) -> Store:
    """Opens a store with a long timeout, whose blobs lie in chunks of 256 KiB: a version takes many."""
    return Store(replace(StoreConfig(), url=url, timeout_ms=5_000, chunk_bytes=256 << 10), KEYS)


@pytest.mark.alone
def test_answers_do_not_wait_for_the_version_that_comes_slowly(
    redis_behind: tuple[str, Proxy], engine: Engine, queue: BatchQueue[Item]
) -> None:
    url, proxy = redis_behind
    delay = network_fault("delay", "replica and Redis", [proxy], 1.0)
    with closing(opened(url)) as near, closing(opened(f"redis://{proxy.listen}/0")) as far:
        eventually(lambda: _is_up(near))
        learner = TinyPublisher(near)
        swap = make_swap(far, engine)
        caller = Caller()
        learner.publish(1)
        learner.plan(1)
        swap.start()
        eventually(lambda: engine.live is not None)
        with running(engine, queue, engine.live):
            learner.publish(2, encoder_seed=1)
            delay.inject()
            learner.plan(2)
            started_s = time.monotonic()
            waited_s = list[float]()
            while served(engine) != (2, 2):
                asked_s = time.monotonic()
                queue.submit_many([caller.item("hello", event_id=str(len(waited_s)))])
                caller.wait(len(waited_s) + 1)
                waited_s.append(time.monotonic() - asked_s)
            took_s = time.monotonic() - started_s
        swap.close()
    assert took_s > 4 * TOXICS["delay"][1]["latency"] / 1000
    assert len(waited_s) > 20
    assert sorted(waited_s)[int(0.99 * len(waited_s))] < 0.1 * took_s


def _is_up(store: Store) -> bool:
    try:
        return store.versions.current() == 0
    except StoreUnavailable:
        return False
