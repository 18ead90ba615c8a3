"""A whole replica during an outage of the broker: nothing is lost, and everything resumes afterwards."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import httpx2
import pytest

from services.local.kafka import LocalBroker
from serving.config import ServingConfig
from serving.replica import Replica
from serving.replica_config import ReplicaConfig
from tests.brokers import start_kind, take
from tests.serving.versions import TinyPublisher
from tests.stores import KEYS
from tests.waiting import eventually, suspend
from tests.wire.bus.traffic import kept_ports, kill
from wire.bus import Bus, Subscription
from wire.config import BusConfig, StoreConfig
from wire.records import Answer, Event
from wire.store import Store

pytestmark = pytest.mark.live

BACK_S = 15.0
"""Time after which everything must have resumed."""


class Away:
    """A broker that can leave and come back: Apache Kafka is killed and started, Tansu, in memory, is stopped."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._find_port = kept_ports(2 if kind == "kafka" else 1)
        self.broker: LocalBroker = start_kind(kind, folder, self._find_port)

    def leave(self) -> None:
        if self._kind == "kafka":
            kill(self.broker)
        else:
            suspend(self.broker.process.pid)

    def come_back(self) -> None:
        if self._kind == "kafka":
            self.broker = start_kind("kafka", self._folder, self._find_port)
        else:
            os.kill(self.broker.process.pid, signal.SIGCONT)

    def close(self) -> None:
        if self._kind == "tansu":
            os.kill(self.broker.process.pid, signal.SIGCONT)
        self.broker.stop()


@pytest.fixture(params=["tansu", "kafka"])
def away(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Away]:
    with closing(Away(request.param, tmp_path / "broker")) as started:
        yield started


@pytest.fixture
def bus_config(away: Away) -> BusConfig:
    """Lets records fail after 2 s, so that a short outage acts as a long one."""
    return BusConfig(
        bootstrap_servers=away.broker.bootstrap_servers,
        client={
            "session_timeout_ms": 6_000 if away.broker.kind == "kafka" else 2_000,
            "heartbeat_interval_ms": 200,
            "delivery_timeout_ms": 2_000,
            "request_timeout_ms": 1_000,
        },
    )


@pytest.fixture
def start(
    bus: Bus, bus_config: BusConfig, store_config: StoreConfig, store: Store, tmp_path: Path
) -> Iterator[Callable[[], Replica]]:
    learner = TinyPublisher(store)
    learner.publish(1)
    learner.plan(1)
    config = ReplicaConfig(
        encoder="minilm-l6",
        serving=ServingConfig(reconnect_s=0.2, drain_timeout_s=1.0, spool_dir=str(tmp_path / "spool")),
        bus=bus_config,
        store=store_config,
        ring=KEYS,
    )
    with ExitStack() as started:

        def start_one() -> Replica:
            replica = Replica(config, f"replica{time.monotonic_ns()}")
            replica.start()
            started.callback(replica.close)
            eventually(lambda: replica.api().bridge.not_ready_problem() is None)
            return replica

        yield start_one


def ask(url: str, names: list[str], *, pause_s: float = 0.0) -> None:
    with httpx2.Client() as client:
        for name in names:
            (answer,) = client.post(url, json={"text": "hello", "id": name, "key": "k"}).json()["answers"]
            assert answer["can_be_labelled"]
            time.sleep(pause_s)


def subscriptions(replica: Replica) -> list[Subscription[Any]]:
    """Returns the open subscriptions of a replica."""
    return [each for each in replica._bus._opened if isinstance(each, Subscription) and not each.is_closed]


def answered(bus: Bus, num: int) -> list[str]:
    """Returns the ids of at least `num` answers, each as often as it was sent."""
    with closing(bus.follow([Answer], {})) as follower:
        return [each.record.event_id for each in take(follower.poll, num, within_s=BACK_S)]


def test_nothing_is_lost_while_the_broker_is_away(
    away: Away, start: Callable[[], Replica], listen: Callable[[Replica], str], bus: Bus, open_bus: Callable[[], Bus]
) -> None:
    """B15: after 30 s without a broker, answers by HTTP were dropped; beyond 4,000 they were not even kept.

    A request that timed out may have reached the broker, in any order, so each answer counts where it was last.
    """
    replica = start()
    url = f"{listen(replica)}/predict"
    ask(url, ["before"])
    names = [f"e{number}" for number in range(200)]
    with closing(bus.publisher()) as publisher:
        for name in names:
            publisher.send(Event(id=name, text="hello", key=name))
    eventually(lambda: replica.status().counts.get("answers", 0) > 20)
    before = subscriptions(replica)
    away.leave()
    during = [f"during {number}" for number in range(60)]
    ask(url, during, pause_s=0.1)
    eventually(lambda: replica.status().counts.get("send_failed", 0) > 0)
    away.come_back()
    back_s = time.monotonic()
    ask(url, ["after"])
    eventually(lambda: len(set(answered(open_bus(), 1))) > 0)
    found: list[str] = []

    def is_complete() -> bool:
        found[:] = answered(open_bus(), 262)
        return set(found) >= {"before", *names, *during, "after"}

    eventually(is_complete, within_s=BACK_S)
    assert time.monotonic() - back_s < BACK_S
    newest_first = [name for name in reversed(found) if not name.startswith("e")]
    assert list(dict.fromkeys(newest_first)) == ["before", *during, "after"][::-1]
    print(f"back after {time.monotonic() - back_s:.1f} s; twice: {len(found) - len(set(found))}")
    replica.check()
    eventually(lambda: replica.status().open_events == 0)
    assert subscriptions(replica) == before, "the group would wait for the member that was given up"


def test_what_a_replica_could_not_publish_is_published_by_the_next(
    away: Away, start: Callable[[], Replica], listen: Callable[[Replica], str], open_bus: Callable[[], Bus]
) -> None:
    """B15: a restarted replica publishes the answers on disk as well, in their order.

    What the first one had in flight may still reach the broker before, in any order, so each answer counts where it
    was last.
    """
    first = start()
    url = f"{listen(first)}/predict"
    ask(url, ["before"])
    assert answered(open_bus(), 1) == ["before"]
    away.leave()
    names = [f"{number}" for number in range(20)]
    ask(url, names)
    first.close()
    away.come_back()
    start()

    def is_in_order() -> bool:
        newest_first = reversed(answered(open_bus(), 21))
        return list(dict.fromkeys(newest_first)) == ["before", *names][::-1]

    eventually(is_in_order, within_s=BACK_S)
