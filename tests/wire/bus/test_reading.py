"""What cannot be read becomes a dead letter on real brokers, and the partition moves on."""

import os
from typing import Any

import pytest

from tests.brokers import eventually, take
from tests.wire.bus.traffic import ids, send
from wire.bus import Bus, Publisher, Received, Refused
from wire.records import MAX_EVENT_BYTES, DeadLetter, Event

pytestmark = pytest.mark.live


def test_bad_messages_are_refused_and_the_partition_moves_on(
    bus: Bus, publisher: Publisher, foreign: Any, topic: str
) -> None:
    bad = {
        "oversized": b'{"text": "%s"}' % (b"x" * MAX_EVENT_BYTES),
        "empty": None,
        "undecodable": b"hello",
        "wrong_schema": b'{"txt": "hello"}',
    }
    for value in bad.values():
        foreign.send(topic, value=value, key=b"k", partition=0)
    foreign.send(topic, value=b'{"text": "hello", "id": "good"}', partition=0)
    foreign.flush(30)

    member = bus.subscribe(Event, "readers")
    received: list[Received[Event]] = []
    refused: list[Refused] = []

    def moved_on() -> bool:
        poll = member.poll(100)
        received.extend(poll.received)
        refused.extend(poll.refused)
        return bool(received)

    eventually(moved_on)
    assert ids(received) == ["good"]
    assert [(item.dead_letter.reason, item.dead_letter.payload) for item in refused] == [
        (reason, value if value else b"") for reason, value in bad.items()
    ]
    send(publisher, *(item.dead_letter for item in refused))
    for position in [item.position for item in refused] + [item.position for item in received]:
        member.finish(position)
    eventually(lambda: not member.poll(20).received and member.num_unfinished == 0)
    letters = take(bus.follow([DeadLetter], {}).poll, len(bad))
    assert {letter.record for letter in letters} == {item.dead_letter for item in refused}


def test_the_largest_message_fits_into_a_dead_letter(bus: Bus, publisher: Publisher, foreign: Any, topic: str) -> None:
    payload = os.urandom((8 << 20) - 1_000)
    foreign.send(topic, value=payload, partition=0).get(30)
    follower = bus.follow([Event], {})
    refused: list[Refused] = []

    def came() -> bool:
        refused.extend(follower.poll(100).refused)
        return bool(refused)

    eventually(came)
    send(publisher, refused[0].dead_letter)
    letter = take(bus.follow([DeadLetter], {}).poll, 1)[0].record
    assert (letter.reason, letter.payload) == ("oversized", payload)
