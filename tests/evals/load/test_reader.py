"""A reader resumes after the last record when the broker comes back or has a new address."""

from typing import Any

import pytest

from evals.load.reader import Reader
from evals.load.session import Loops
from tests.waiting import eventually
from wire.bus import Bus, Received
from wire.config import BusConfig
from wire.records import Event

pytestmark = pytest.mark.live


def test_each_record_is_read_once_before_and_after_an_outage_of_the_broker(bus: Bus, bus_config: BusConfig) -> None:
    configs = [bus_config]
    found: list[Received[Any]] = []
    publisher = bus.publisher()
    with Loops(Reader(lambda: configs[0], [Event], found.append)):
        publisher.send_all([Event(id="1", text="a")], 30.0)
        eventually(lambda: len(found) == 1)
        configs[0] = BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 500})
        publisher.send_all([Event(id="2", text="a")], 30.0)
        configs[0] = bus_config
        eventually(lambda: len(found) == 2)
    assert [each.record.id for each in found] == ["1", "2"]
