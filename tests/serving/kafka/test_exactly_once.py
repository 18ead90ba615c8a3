"""Answers and offsets in one transaction of a real Kafka: who reads what is committed sees each answer once."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial

import pytest
from kafka import KafkaConsumer  # type: ignore[import-untyped]

from tests.serving.kafka.intake_rig import IntakeRig, committed, received, send
from tests.serving.versions import label_of, live_versions
from tests.waiting import eventually
from wire.bus import Bus
from wire.config import BusConfig
from wire.records import Answer, DeadLetter, Event

pytestmark = [pytest.mark.live, pytest.mark.parametrize("broker", ["kafka"], indirect=True)]
"""Tansu ends no transactions."""


@pytest.fixture
def start(open_bus: Callable[[], Bus], bus: Bus) -> Iterator[Callable[[], IntakeRig]]:
    """Starts an intake of its own client id, as another replica would."""
    rigs: list[IntakeRig] = []

    def start_one() -> IntakeRig:
        rig = IntakeRig(open_bus(), exactly_once=True)
        rig.pipeline.engine.activate(live_versions([1]))
        rig.start()
        rigs.append(rig)
        return rig

    yield start_one
    for rig in rigs:
        rig.close()


def events(num: int, *, first: int = 0) -> list[Event]:
    return [Event(id=f"e{index}", text=f"text number {index}", key=f"k{index}") for index in range(first, first + num)]


def answers_by(config: BusConfig) -> Counter[str]:
    """Counts the answers of each event that a client of somebody else reads, from the beginning to the end."""
    consumer = KafkaConsumer(
        config.topic_for(Answer),
        bootstrap_servers=config.bootstrap_servers,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        consumer_timeout_ms=3_000,
    )
    with closing(consumer):
        return Counter(json.loads(message.value)["event_id"] for message in consumer)


def has_partitions(rig: IntakeRig) -> bool:
    return bool(rig.subscriptions) and bool(rig.subscriptions[-1].partitions)


def test_every_event_is_answered_and_committed_in_one(start: Callable[[], IntakeRig], bus: Bus) -> None:
    send(bus, *events(40))
    rig = start()
    answers = received(bus, Answer, 40)
    assert {answer.event_id: answer.label for answer in answers} == {
        event.id: label_of(1, event.text) for event in events(40)
    }
    eventually(lambda: rig.window.num_open == 0)
    rig.close()
    assert committed(bus) == 0


def test_what_cannot_be_read_and_what_comes_twice_is_part_of_it(start: Callable[[], IntakeRig], bus: Bus) -> None:
    twice = Event(id="twice", text="hello", key="k")
    send(bus, twice, twice, Event(id="twice", text="another text", key="k"))
    rig = start()
    (letter,) = received(bus, DeadLetter, 1)
    assert letter.reason == "conflicting_id"
    assert [answer.event_id for answer in received(bus, Answer, 1)] == ["twice"]
    send(bus, twice, Event(id="last", text="hello", key="k"))
    assert sorted(answer.event_id for answer in received(bus, Answer, 2)) == ["last", "twice"]
    eventually(lambda: rig.window.num_open == 0)
    rig.close()
    assert committed(bus) == 0


@pytest.mark.slow
def test_partitions_that_move_to_and_fro_give_no_event_two_answers(
    start: Callable[[], IntakeRig], bus: Bus, bus_config: BusConfig
) -> None:
    """Some leave us and come back in a generation of the group that passes unnoticed: what we had of them is over."""
    first = start()
    for round_ in range(3):
        send(bus, *events(200, first=400 * round_))
        second = start()
        send(bus, *events(200, first=400 * round_ + 200))
        eventually(partial(has_partitions, second))
        second.close()
    num = 3 * 400
    received(bus, Answer, num)
    eventually(lambda: first.window.num_open == 0)
    counted = answers_by(bus_config)
    assert len(counted) == num and set(counted.values()) == {1}
