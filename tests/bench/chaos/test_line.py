"""The line loses nothing, whatever happens to the broker."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from bench.chaos.line import Line
from services.local.kafka import LocalBroker
from tests.brokers import eventually, take
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["kafka"], indirect=True)]


@contextmanager
def running(line: Line) -> Iterator[None]:
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(line.run)
        try:
            yield
        finally:
            line.close()
            run.result()


def test_what_was_sent_while_the_broker_slept_arrives_once(
    bus: Bus, bus_config: BusConfig, broker: LocalBroker
) -> None:
    line = Line(lambda: bus_config, client_id="line")
    acknowledged = Counter[int]()
    with running(line):
        for number in range(100):
            if number == 20:
                os.kill(broker.process.pid, signal.SIGSTOP)
            line.send(Event(id=str(number), text="hello"), partial(acknowledged.update, [number]))
        os.kill(broker.process.pid, signal.SIGCONT)
        eventually(lambda: line.num_open == 0)
    assert acknowledged == Counter(range(100))
    received = take(bus.follow([Event], {}).poll, 100)
    assert Counter(int(each.record.id) for each in received) == Counter(range(100))


def test_it_follows_a_broker_to_another_address(bus: Bus, bus_config: BusConfig) -> None:
    where = [BusConfig(bootstrap_servers="127.0.0.1:1", request_timeout_ms=500)]
    line = Line(lambda: where[0], client_id="line")
    with running(line):
        line.send(Event(id="1", text="hello"), lambda: None)
        where[0] = bus_config
        eventually(lambda: line.num_open == 0)
    assert [each.record.id for each in take(bus.follow([Event], {}).poll, 1)] == ["1"]
