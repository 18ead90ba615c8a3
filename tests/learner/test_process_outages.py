"""B21: servers that hang cost the learner neither its lease nor its report nor a label, and it goes on by itself.

A stopped process is the worst server: it accepts connections and answers nothing. These tests start their own servers.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from learner.intake.consumer import CLOSE_S
from learner.intake.outbox import Outbox, OutboxSender
from services.local.kafka import LocalBroker
from services.local.redis import LocalRedis, start_redis
from tests.brokers import start_kind
from tests.learner.learner_processes import LearnerProcesses, exit_code, send, stop, wait_for
from tests.learner.streams import stream
from tests.stores import KEYS
from tests.waiting import eventually, suspend
from wire.bus import Bus
from wire.config import BusConfig, StoreConfig
from wire.errors import BusUnavailable
from wire.records import LearnerReport, Quarantined
from wire.store import Store
from wire.timestamps import now_ms

pytestmark = pytest.mark.live

OUTAGE_S = 6.0
BACK_WITHIN_S = 15.0
HELD_UP_S = 25.0
"""Less than the delivery timeout, which is how long the broker would be waited for, and far more than CLOSE_S on a busy
machine."""


@dataclass
class Servers:
    """A broker and a Redis that may be stopped, and learners on them."""

    broker: LocalBroker
    redis: LocalRedis
    children: LearnerProcesses
    bus: Bus
    store: Store

    def stop(self, *servers: LocalBroker | LocalRedis) -> None:
        for server in servers:
            suspend(server.process.pid)

    def go_on(self) -> None:
        for server in (self.broker, self.redis):
            server.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.go_on()
        self.children.close()
        self.bus.close()
        self.store.close()
        self.broker.stop()
        self.redis.stop()


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    redis = start_redis(tmp_path / "redis")
    broker = start_kind("tansu", tmp_path / "broker")
    bus_config = BusConfig(bootstrap_servers=broker.bootstrap_servers)
    store_config = StoreConfig(url=redis.url)
    bus = Bus(bus_config, client_id="test")
    bus.create_topics()
    children = LearnerProcesses(tmp_path, bus_config, store_config, trainable_layers=0)
    it = Servers(broker, redis, children, bus, Store(store_config, KEYS))
    yield it
    it.close()


def knows(num_events: int) -> Callable[[LearnerReport], bool]:
    return lambda report: report.counts.get("answers") == num_events and report.lag == 0 and report.version > 0


def learnt_on_disk(children: LearnerProcesses) -> int:
    return children.snapshot().facts.counts.get("learnt", 0)


@pytest.mark.alone
def test_without_a_broker_the_lease_and_the_reports_go_on(servers: Servers) -> None:
    leader = servers.children.start()
    send(servers.bus, stream(0, 40))
    wait_for(servers.store, knows(40))
    standby = servers.children.start()
    assert standby.stdout and "standing_by" in standby.stdout.readline()
    servers.stop(servers.broker)
    stopped_ms = now_ms()

    def has_reported_all_the_time() -> bool:
        report = servers.store.reports.learner()
        assert report is not None and report.epoch == 1
        return report.time_ms > stopped_ms + 1e3 * OUTAGE_S

    eventually(has_reported_all_the_time)
    servers.go_on()
    back_s = time.monotonic()
    send(servers.bus, stream(40, 80))
    wait_for(servers.store, knows(80))
    assert time.monotonic() - back_s < BACK_WITHIN_S
    assert stop(leader) == 0 and stop(standby) == 0


def test_without_a_store_learning_goes_on(servers: Servers) -> None:
    leader = servers.children.start()
    send(servers.bus, stream(0, 40))
    wait_for(servers.store, knows(40))
    before = learnt_on_disk(servers.children)
    servers.stop(servers.redis)
    send(servers.bus, stream(40, 80))
    eventually(lambda: learnt_on_disk(servers.children) > before, within_s=2 * OUTAGE_S)
    time.sleep(OUTAGE_S)
    assert leader.poll() is None
    servers.go_on()
    back_s = time.monotonic()
    wait_for(servers.store, knows(80))
    assert time.monotonic() - back_s < BACK_WITHIN_S
    versions = servers.store.versions
    eventually(lambda: versions.manifest(versions.current()).epoch == 1, within_s=BACK_WITHIN_S)
    assert stop(leader) == 0


def test_a_learner_ends_in_time_whatever_hangs(servers: Servers) -> None:
    leader = servers.children.start()
    send(servers.bus, stream(0, 40))
    wait_for(servers.store, knows(40))
    servers.stop(servers.broker, servers.redis)
    leader.terminate()
    started_s = time.monotonic()
    assert exit_code(leader) == 0 and time.monotonic() - started_s < BACK_WITHIN_S
    assert servers.children.snapshot().facts.join.counts["answers"] == 40


def test_letters_on_their_way_hold_up_nobody_who_ends(servers: Servers) -> None:
    letters = Outbox()
    sender = OutboxSender(servers.bus, letters)
    forged = Quarantined(reason="forged", event_id="1", label="a lie", source="bot", time_ms=7, receipt="5.ab")
    letters.add([forged])
    assert letters.wait_until_empty(60)
    servers.stop(servers.broker)
    letters.add([msgspec.structs.replace(forged, event_id="2")])
    started_s = time.monotonic()
    sender.close(CLOSE_S)
    with suppress(BusUnavailable):
        servers.bus.close(flush_s=CLOSE_S)
    assert time.monotonic() - started_s < HELD_UP_S
    assert [letter.event_id for letter in letters.export().quarantined] == ["2"]


def test_a_learner_that_starts_before_its_servers_waits_for_them(servers: Servers) -> None:
    servers.stop(servers.broker, servers.redis)
    first = servers.children.start()
    second = servers.children.start()
    for child in (first, second):
        assert child.stdout
        while "waiting_for_server" not in child.stdout.readline():
            pass
    assert stop(second) == 0
    servers.go_on()
    back_s = time.monotonic()
    wait_for(servers.store, lambda report: report.version == 1)
    assert time.monotonic() - back_s < BACK_WITHIN_S
    assert stop(first) == 0
