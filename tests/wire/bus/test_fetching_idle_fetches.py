"""Tests that an idle consumer's fetches wait for its next record, and that nothing is lost for it."""

from typing import Any

import pytest

from tests.waiting import eventually
from tests.wire.bus.traffic import events, send
from wire.bus import Bus, Publisher
from wire.bus.fetching import IDLE_AFTER_S, IDLE_WAIT_MS, IdleFetches
from wire.records import Event

BUSY = {"fetch_min_bytes": 64 << 10, "fetch_max_wait_ms": 5}


class Fetcher:
    """The part of the client library's fetcher that is set."""

    def __init__(self, **options: int) -> None:
        self.config: dict[str, Any] = {"fetch_max_bytes": 7} | options


class Consumer:
    """A consumer that was opened with these options."""

    def __init__(self, **options: int) -> None:
        self._fetcher = Fetcher(**options)

    @property
    def waits(self) -> tuple[int, int]:
        config = self._fetcher.config
        assert config["fetch_max_bytes"] == 7
        return config["fetch_min_bytes"], config["fetch_max_wait_ms"]


def test_fetches_are_as_configured_until_nothing_came_for_a_while() -> None:
    now_s = 10.0
    consumer = Consumer(**BUSY)
    fetches = IdleFetches(consumer, clock_s=lambda: now_s)
    fetches.note(False)
    assert consumer.waits == (64 << 10, 5)
    now_s += IDLE_AFTER_S
    fetches.note(False)
    assert consumer.waits == (1, IDLE_WAIT_MS)
    fetches.note(True)
    assert consumer.waits == (64 << 10, 5)
    now_s += 0.9 * IDLE_AFTER_S
    fetches.note(False)
    assert consumer.waits == (64 << 10, 5)


def test_a_patient_consumer_waits_no_less_when_it_is_idle() -> None:
    now_s = 0.0
    consumer = Consumer(fetch_min_bytes=9, fetch_max_wait_ms=500)
    fetches = IdleFetches(consumer, clock_s=lambda: now_s)
    now_s = IDLE_AFTER_S
    fetches.note(False)
    assert consumer.waits == (1, 500)


@pytest.mark.live
def test_a_reader_reads_on_from_idle_fetches(bus: Bus, publisher: Publisher) -> None:
    follower = bus.follow([Event], {})
    options = follower._consumer._fetcher.config
    sent: list[Event] = []
    read: list[str] = []

    def is_all_read() -> bool:
        read.extend(item.record.message_id for item in follower.poll(20).received)
        return len(read) >= len(sent)

    for burst in (events(1), events(3, start=1), events(2, start=4)):
        eventually(lambda: is_all_read() and options["fetch_min_bytes"] == 1)
        sent += burst
        send(publisher, *burst)
    eventually(is_all_read)
    assert sorted(read) == [event.id for event in sent]
