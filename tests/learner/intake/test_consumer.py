from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pytest

from learner.intake.consumer import Consumer, ReadState
from learner.intake.outbox import MAX_BYTES, Outbox
from learner.samples import Level, Levels
from services.local.kafka import LocalBroker
from tests.brokers import take
from tests.learner.streams import answer, feedback
from tests.waiting import eventually
from tests.wire.bus.traffic import only_kafka
from wire.bus import Bus, Follower, Publisher
from wire.bus.bus import FOLLOWED_BYTES
from wire.config import BusConfig
from wire.errors import BusRefused
from wire.records import DeadLetter, Feedback, LogMark, Quarantined, TopicRecord

pytestmark = pytest.mark.live


OPENED: list[Consumer] = []
EMPTY = Levels(answers=Level(fill=0.0, room=1e6), labels=Level(fill=0.0, room=1e6))


def make_consumer(
    bus: Bus,
    offsets: dict[str, int],
    *,
    marks: Mapping[str, LogMark] | None = None,
    letters: Outbox | None = None,
    counts: Counter[str] | None = None,
    truncated: list[bool] | None = None,
) -> Consumer:
    truncations = truncated if truncated is not None else []
    consumer = Consumer(
        bus,
        ReadState(
            offsets=offsets,
            marks=marks or {},
            letters=letters if letters is not None else Outbox(),
            counts=counts if counts is not None else Counter(),
        ),
        levels=lambda: EMPTY,
        wait=lambda: None,
        on_truncated=lambda: truncations.append(True),
    )
    OPENED.append(consumer)
    return consumer


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Closes every consumer after its test, so that none goes on sending."""
    yield
    while OPENED:
        OPENED.pop().close()


def poll(consumer: Consumer, num_records: int) -> list[object]:
    records: list[object] = []

    def has_come() -> bool:
        records.extend(consumer.poll(100))
        return len(records) >= num_records

    eventually(has_come)
    return records


def publisher_after(bus: Bus, num_events: int) -> Publisher:
    """Returns a publisher that has sent this number of answers, each with its label behind it."""
    publisher = bus.publisher()
    for number in range(num_events):
        publisher.send(answer(number))
        publisher.send(feedback(number))
    publisher.flush(10)
    return publisher


def test_a_label_ends_the_idle_time_and_an_answer_does_not(bus: Bus) -> None:
    time_s = [10.0]
    consumer = Consumer(
        bus,
        ReadState(offsets={}, letters=Outbox(), counts=Counter()),
        levels=lambda: EMPTY,
        wait=lambda: None,
        on_truncated=lambda: None,
        clock_s=lambda: time_s[0],
    )
    OPENED.append(consumer)
    time_s[0] = 15.0
    bus.publisher().send_all([answer(0)], 10)
    poll(consumer, 1)
    assert consumer.idle_s == 5.0
    bus.publisher().send_all([feedback(0)], 10)
    poll(consumer, 1)
    time_s[0] = 18.0
    assert consumer.idle_s == 3.0


def test_answers_and_labels_are_read_from_the_offsets(bus: Bus) -> None:
    publisher = publisher_after(bus, 20)
    first = make_consumer(bus, {})
    assert len(poll(first, 40)) == 40 and sum(first.offsets.values()) == 40
    assert sum(first.ends().values()) == 40 and first.lag() == 0
    publisher.send(feedback(20))
    publisher.flush(10)
    second = make_consumer(bus, first.offsets)
    assert poll(second, 1) == [feedback(20)]


def test_the_labels_that_are_not_read_yet_are_counted(bus: Bus) -> None:
    bus.publisher().send_all([answer(0), *map(feedback, range(1_200))], 30)
    consumer = make_consumer(bus, {})
    assert consumer.num_unread_labels == 0, "nothing is known yet"
    records = poll(consumer, 1)
    assert 0 < consumer.num_unread_labels <= 1_201 - len(records)
    poll(consumer, 1_201 - len(records))
    assert consumer.num_unread_labels == 0


def test_no_more_labels_are_taken_than_are_asked_for_and_the_offsets_are_behind_them(bus: Bus) -> None:
    publisher_after(bus, 20)
    consumer = make_consumer(bus, {})
    records: list[object] = []

    def has_come() -> bool:
        polled = consumer.poll(100, max_labels=3)
        records.extend(polled)
        labels = [record for record in polled if isinstance(record, Feedback)]
        assert len(labels) <= 3 and sum(consumer.offsets.values()) == len(records)
        return len(records) == 40

    eventually(has_come)
    assert consumer.lag() == 0 and len(set(map(str, records))) == 40


def test_labels_that_were_fetched_and_not_taken_are_unread(bus: Bus) -> None:
    bus.publisher().send_all(map(feedback, range(20)), 30)
    consumer = make_consumer(bus, {})
    num_unread: dict[int, int] = {}  # by how many were read

    def has_come() -> bool:
        num_read = max(num_unread, default=0) + len(consumer.poll(100, max_labels=1))
        num_unread[num_read] = consumer.num_unread_labels
        return num_read == 20

    eventually(has_come)
    assert num_unread[19] == 1 and num_unread[20] == 0
    assert any(num_unread[read] == 20 - read for read in range(1, 19))


def test_a_topic_that_was_made_anew_is_read_from_its_start_without_what_was_read(broker: LocalBroker, bus: Bus) -> None:
    """N6, B25 no. 11: a topic of the same records (a cluster that was restored) teaches nothing twice."""
    only_kafka(broker)  # Tansu has no clock of its own for records
    publisher = publisher_after(bus, 20)
    first = make_consumer(bus, {})
    poll(first, 40)
    truncations: list[bool] = []
    counts = Counter[str]()
    another = {name: msgspec.structs.replace(mark, log="another") for name, mark in first.marks.items()}
    second = make_consumer(bus, first.offsets, marks=another, truncated=truncations, counts=counts)
    eventually(lambda: not second.poll(100) and counts["read_again"] == 40)
    publisher.send(feedback(20))
    publisher.flush(10)
    assert poll(second, 1) == [feedback(20)]
    assert len(truncations) == counts["log_truncated"] == len(another) == len(second.alarms())
    assert second.offsets == second.ends()
    assert {mark.log for mark in second.marks.values()} == {mark.log for mark in first.marks.values()}


def test_what_cannot_be_read_becomes_a_dead_letter(bus: Bus) -> None:
    publisher = bus.publisher()
    publisher.send(feedback(1, label=" "))
    publisher.flush(10)
    consumer = make_consumer(bus, {})
    letters = bus.follow([DeadLetter], {})
    records: list[object] = []

    def has_come() -> bool:
        assert consumer.poll(100) == []
        records.extend(received.record for received in letters.poll(100).received)
        return bool(records)

    eventually(has_come)
    (letter,) = records
    assert isinstance(letter, DeadLetter) and letter.reason == "wrong_schema"


def test_what_is_not_believed_lies_in_the_quarantine_topic(bus: Bus) -> None:
    label = Quarantined(reason="forged", event_id="e", label="a lie", source="bot", time_ms=7, receipt="5.ab")
    make_consumer(bus, {}).quarantine([label])
    (received,) = take(bus.follow([Quarantined], {}).poll, 1)
    assert received.record == label


class Refusing(Bus):
    """Refuses to be followed the first `times` times."""

    times = 3

    def follow(
        self,
        record_types: Sequence[type[TopicRecord]],
        offsets: Mapping[str, int],
        *,
        marks: Mapping[str, LogMark] | None = None,
        is_patient: bool = False,
        fetch_bytes: int = FOLLOWED_BYTES,
    ) -> Follower:
        if self.times:
            self.times -= 1
            raise BusRefused("not authorized")
        return super().follow(record_types, offsets, marks=marks, is_patient=is_patient, fetch_bytes=fetch_bytes)


def test_a_broker_that_refuses_is_asked_again(bus: Bus, bus_config: BusConfig) -> None:
    """B17: nothing that the bus raises ends the learner."""
    publisher = bus.publisher()
    publisher.send(feedback(1))
    publisher.flush(10)
    refusing = Refusing(bus_config, client_id="learner")
    counts = Counter[str]()
    consumer = make_consumer(refusing, {}, counts=counts)
    assert poll(consumer, 1) == [feedback(1)] and counts["polls_failed"] == 3
    refusing.close()


def test_nothing_more_is_read_while_the_letters_are_full() -> None:
    """B17: letters are bounded, and none is dropped."""
    away = Bus(BusConfig(bootstrap_servers="127.0.0.1:1", client={"request_timeout_ms": 200}), client_id="learner")
    letter = DeadLetter(reason="empty", detail="", topic="t", partition=0, offset=0, payload=b"x" * MAX_BYTES)
    letters = Outbox()
    counts = Counter[str]()
    letters.add([letter])
    consumer = make_consumer(away, {"feedback.v1/0": 7}, letters=letters, counts=counts)
    assert consumer.poll(1) == [] and counts == {"polls_behind_letters": 1}
    assert consumer.offsets == {"feedback.v1/0": 7} and letters.export().dead_letters == [letter]
