"""Where a group, and a follower, begin that have read nothing."""

from contextlib import closing
from dataclasses import replace

import pytest

from tests.brokers import take
from tests.wire.bus.traffic import events, ids, send
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Event
from wire.timestamps import now_ms, to_rfc3339

pytestmark = pytest.mark.live


@pytest.mark.parametrize("begin", ["earliest", "latest", "time"])
def test_a_new_group_begins_where_the_settings_say_and_then_goes_on(
    begin: str, bus: Bus, bus_config: BusConfig
) -> None:
    send(bus.publisher(), *events(5))
    moment = to_rfc3339(now_ms() + 1) if begin == "time" else begin
    config = replace(bus_config, begin=moment)
    with closing(Bus(config, "first")) as first:
        first.subscribe(Event, "readers")
        offsets = first.begin_offsets(Event)
        assert (offsets == {}) is (begin == "earliest")
    send(bus.publisher(), *events(5, start=5))
    with closing(Bus(config, "second")) as second:
        expected = 10 if begin == "earliest" else 5
        assert set(ids(take(second.subscribe(Event, "readers").poll, expected))) == {
            f"e{number}" for number in range(10 - expected, 10)
        }
        assert set(ids(take(second.follow([Event], offsets).poll, expected))) >= {
            f"e{number}" for number in range(5, 10)
        }
