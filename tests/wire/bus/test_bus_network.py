"""F54: tests the Kafka client on a faulty network. Nothing is lost or duplicated, and it recovers soon."""

import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from itertools import count

import pytest

from bench.chaos.faults import CUT, TOXICS, network_fault
from bench.chaos.toxiproxy import Proxy
from tests.waiting import eventually
from tests.wire.bus.traffic import events, note, patient
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event

pytestmark = [pytest.mark.live, pytest.mark.slow]

RECOVERED_S = 10.0
FAULTY_S = 2.0

_numbers = count()


@pytest.fixture
def bus(kafka_behind: Proxy) -> Iterator[Bus]:
    config = BusConfig(bootstrap_servers=kafka_behind.listen, prefix=f"network{next(_numbers)}.")
    bus = Bus(config, "test")
    bus.create_topics()
    yield bus
    bus.close()


@pytest.mark.parametrize("what", [CUT, *TOXICS])
def test_nothing_is_lost_and_it_goes_on_soon(kafka_behind: Proxy, bus: Bus, what: str) -> None:
    publisher = bus.publisher()
    member = bus.subscribe(Event, "readers")
    follower = bus.follow([Event], {})
    acks = Counter[str]()
    received = Counter[str]()
    followed = Counter[str]()

    def send(first: int) -> None:
        for event in events(20, start=first):
            publisher.send(event, partial(note, acks, event.id))

    def read() -> None:
        for item in patient(member.poll)(50).received:
            received[item.record.id] += 1
            member.finish(item.position)
        followed.update(item.record.id for item in patient(follower.poll)(50).received)

    def all_read(num: int) -> bool:
        read()
        return {len(received), len(followed), len(acks)} == {num}

    send(0)
    eventually(lambda: all_read(20))
    fault = network_fault(what, "us and Kafka", [kafka_behind], FAULTY_S)
    begun_s = time.monotonic()
    fault.inject()
    send(20)
    while time.monotonic() < begun_s + FAULTY_S:
        read()
    fault.heal()
    send(40)
    eventually(lambda: all_read(60), within_s=RECOVERED_S)
    names = {event.id for event in events(60)}
    assert acks == Counter(names)
    assert followed == Counter(names)
    assert set(received) == names
