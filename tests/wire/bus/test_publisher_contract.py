"""What a publisher promises, held by the real one and by the fake one of the tests of the outbox alike."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from services.local.kafka import LocalBroker
from tests.brokers import start_kind
from tests.serving.kafka.fake_broker import FakeBroker
from tests.wire.bus.traffic import events, kill, send
from wire.bus import Bus
from wire.config import BusConfig
from wire.errors import BusUnavailable, SendFailed

pytestmark = pytest.mark.live


class Side(ABC):
    """A publisher, and functions that stop and start its broker."""

    publisher: Any

    @abstractmethod
    def fail_late(self) -> None:
        """Lets the broker acknowledge nothing any more that the publisher accepts."""

    @abstractmethod
    def be_away(self) -> None:
        """Lets the publisher find no broker for a record."""


class FakeSide(Side):
    def __init__(self) -> None:
        self._broker = FakeBroker()
        self.publisher = self._broker.open()

    def fail_late(self) -> None:
        self._broker.says = lambda record: SendFailed("not acknowledged in time")

    def be_away(self) -> None:
        self._broker.says = lambda record: BusUnavailable("no broker")


class RealSide(Side):
    def __init__(self, broker: LocalBroker, bus: Bus) -> None:
        self._broker = broker
        self.publisher = bus.publisher()

    def fail_late(self) -> None:
        send(self.publisher, *events(1))  # from now on the client knows the topic, and accepts records for it
        kill(self._broker)

    def be_away(self) -> None:
        kill(self._broker)


@pytest.fixture(params=["fake", "real"])
def side(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Side]:
    if request.param == "fake":
        yield FakeSide()
        return
    broker = start_kind("tansu", tmp_path)
    servers = broker.bootstrap_servers
    bus = Bus(
        BusConfig(bootstrap_servers=servers, client={"delivery_timeout_ms": 1_000, "request_timeout_ms": 500}), "sender"
    )
    yield RealSide(broker, bus)
    bus.close()
    broker.stop()


class Acks:
    """The acknowledgements of records, which come from another thread."""

    def __init__(self) -> None:
        self.errors: list[Exception | None] = []
        self.threads: set[threading.Thread] = set()
        self._changed = threading.Condition()

    def __call__(self, error: Exception | None) -> None:
        with self._changed:
            self.errors.append(error)
            self.threads.add(threading.current_thread())
            self._changed.notify_all()

    def wait(self, num: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.errors) >= num, 60)


def test_each_record_is_acknowledged_once_by_another_thread(side: Side) -> None:
    acks = Acks()
    for event in events(20):
        side.publisher.send(event, acks)
    acks.wait(20)
    side.publisher.close()
    assert acks.errors == [None] * 20
    assert threading.current_thread() not in acks.threads


def test_what_is_not_acknowledged_fails_late_and_once(side: Side) -> None:
    side.fail_late()
    acks = Acks()
    side.publisher.send(events(1)[0], acks)
    acks.wait(1)
    side.publisher.close()
    assert [type(error) for error in acks.errors] == [SendFailed]
    assert threading.current_thread() not in acks.threads


def test_what_cannot_be_accepted_raises_at_once_and_is_never_acknowledged(side: Side) -> None:
    side.be_away()
    acks = Acks()
    with pytest.raises(BusUnavailable):
        side.publisher.send(events(1)[0], acks)
    side.publisher.close()
    assert acks.errors == []


def test_after_close_nothing_is_on_its_way(side: Side) -> None:
    acks = Acks()
    for event in events(5):
        side.publisher.send(event, acks)
    side.publisher.close()
    assert acks.errors == [None] * 5
    side.publisher.close()
