"""The end offsets of partitions, whichever of its two sources the broker answers rightly."""

import pytest

from wire.bus import Bus
from wire.records import Event

pytestmark = pytest.mark.live


def test_an_end_is_the_offset_of_the_next_record(bus: Bus) -> None:
    bus.publisher().send_all([Event(id=str(number), text="a", key=str(number)) for number in range(30)], 30.0)
    assert sum(bus.end_offsets(Event).values()) == 30
    bus.publisher().send_all([Event(id="one more", text="a")], 30.0)
    assert sum(bus.end_offsets(Event).values()) == 31
