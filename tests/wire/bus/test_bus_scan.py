"""Reads whole topics."""

import pytest

from wire.bus import Bus, read_all_records
from wire.records import Event, Feedback

pytestmark = pytest.mark.live


def test_everything_up_to_the_end_is_read_once(bus: Bus) -> None:
    events = [Event(id=str(number), text="a") for number in range(40)]
    label = Feedback(event_id="7", label="refund")
    bus.publisher().send_all([*events, label], 30.0)
    found = list(read_all_records(bus, [Event, Feedback]))
    assert {each.id for each in found if isinstance(each, Event)} == {event.id for event in events}
    assert len(found) == 41


def test_an_empty_topic_has_no_records(bus: Bus) -> None:
    assert list(read_all_records(bus, [Event])) == []
