"""The sender loses no record during outages of the broker."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from evals.load.sender import Sender
from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.waiting import eventually, suspend
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["kafka"], indirect=True)]


@contextmanager
def running(sender: Sender) -> Iterator[None]:
    with ThreadPoolExecutor(1) as threads:
        run = threads.submit(sender.run)
        try:
            yield
        finally:
            sender.close()
            run.result()


def test_records_that_were_sent_during_an_outage_arrive_once(
    bus: Bus, bus_config: BusConfig, broker: LocalBroker
) -> None:
    sender = Sender(lambda: bus_config, client_id="line")
    acknowledged = Counter[int]()
    with running(sender):
        for number in range(100):
            if number == 20:
                suspend(broker.process.pid)
            sender.send(Event(id=str(number), text="hello"), partial(acknowledged.update, [number]))
        os.kill(broker.process.pid, signal.SIGCONT)
        eventually(lambda: sender.num_open == 0)
    assert acknowledged == Counter(range(100))
    received = take(bus.follow([Event], {}).poll, 100)
    assert Counter(int(each.record.id) for each in received) == Counter(range(100))


def test_the_sender_follows_a_broker_to_another_address(bus: Bus, bus_config: BusConfig) -> None:
    configs = [BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 500})]
    sender = Sender(lambda: configs[0], client_id="line")
    with running(sender):
        sender.send(Event(id="1", text="hello"), lambda: None)
        configs[0] = bus_config
        eventually(lambda: sender.num_open == 0)
    assert [each.record.id for each in take(bus.follow([Event], {}).poll, 1)] == ["1"]
