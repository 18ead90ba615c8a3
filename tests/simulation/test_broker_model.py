"""The simulated broker does what a real one does: the same records have the same offsets, ends, times and commits."""

from contextlib import closing

import pytest
from kafka import TopicPartition  # type: ignore[import-untyped]

from tests.brokers import take
from tests.simulation.broker import Broker
from tests.simulation.fetches import Fetches, TopicState
from tests.simulation.network import Network
from tests.simulation.scheduler import Scheduler
from tests.simulation.server import EPOCH_MS
from wire.bus import Bus, Received
from wire.envelope import to_message
from wire.records import Event, Feedback, TopicRecord

pytestmark = pytest.mark.parametrize("broker", ["kafka"], indirect=True, scope="session")  # Tansu is not simulated

NUM_RECORDS = 30
GROUP = "serving"


def send(bus: Bus, records: list[TopicRecord]) -> None:
    with closing(bus.publisher()) as publisher:
        publisher.send_all(records, timeout_s=20.0)


def label(number: int) -> Feedback:
    return Feedback(event_id=f"e{number}", label="a", source="desk", time_ms=1)


def by_number(offsets: dict[str, int]) -> dict[int, int]:
    """Returns offsets by the number of the partition."""
    return {int(name.rpartition("/")[2]): offset for name, offset in offsets.items()}


def simulated(received: list[Received[TopicRecord]], partitions: int) -> Broker:
    """Returns a simulated broker to which the same records came, at the same times: they have the same offsets."""
    scheduler = Scheduler(0)
    topics = (Event.TOPIC, Feedback.TOPIC)
    broker = Broker(scheduler, Network(scheduler), partitions=partitions, topics=topics, flushes_always=False)
    for each in received:
        broker.skew_ms = each.log_ms - EPOCH_MS
        place = TopicPartition(each.record.TOPIC, each.position.partition)
        assert broker.append(place, to_message(each.record)) == each.position.offset
    return broker


def test_the_same_records_have_the_same_offsets_ends_and_times(bus: Bus) -> None:
    for half in (range(NUM_RECORDS // 2), range(NUM_RECORDS // 2, NUM_RECORDS)):
        send(bus, [label(number) for number in half])
    with closing(bus.follow([Feedback], {})) as follower:
        received = take(follower.poll, NUM_RECORDS)
    ends = by_number(bus.end_offsets(Feedback))
    broker = simulated(received, len(ends))
    fetches = Fetches(broker, group="", reset="none")
    logs = {number: TopicPartition(Feedback.TOPIC, number) for number in ends}
    assert {number: broker.logs[each].end for number, each in logs.items()} == ends
    for time_ms in {each.log_ms + step for each in received for step in (-1, 0, 1)}:
        found = {number: fetches.offset_at(each, time_ms) for number, each in logs.items()}
        offsets = {number: at.offset if at else ends[number] for number, at in found.items()}
        assert offsets == by_number(bus.offsets_at(Feedback, time_ms))


@pytest.mark.parametrize("num_finished", [0, 5])
def test_a_group_goes_on_behind_what_it_has_committed(bus: Bus, num_finished: int) -> None:
    send(bus, [Event(id=f"e{number}", text="a", key="one", source="shop", time_ms=1) for number in range(NUM_RECORDS)])
    with closing(bus.subscribe(Event, GROUP)) as subscription:
        received = take(subscription.poll, NUM_RECORDS)
        for each in received[:num_finished]:
            subscription.finish(each.position)
    with closing(bus.subscribe(Event, GROUP)) as subscription:
        again = take(subscription.poll, NUM_RECORDS - num_finished)
    place = TopicPartition(Event.TOPIC, received[0].position.partition)
    broker = simulated(received, place.partition + 1)
    if num_finished:
        broker.commit(GROUP, {place: (num_finished, 0)})
    fetches = Fetches(broker, group=GROUP, reset="earliest")
    fetches.states[place] = TopicState()
    raws, _ = fetches.records(NUM_RECORDS)[place]
    assert [(raw.offset, raw.value) for raw in raws] == [
        (each.position.offset, to_message(each.record).value) for each in again
    ]
