"""What the topics hold, by the number of the event."""

from collections import Counter

from bench.chaos.ledger import id_of
from bench.chaos.readback import TopicContents
from tests.evals.load.test_ledger import answer
from wire.bus import Received
from wire.bus.offsets import Position
from wire.records import DeadLetter, Event, Feedback, LogMark, TopicRecord


def received(record: TopicRecord, offset: int) -> Received[TopicRecord]:
    position = Position(topic=record.TOPIC, partition=0, offset=offset, generation=1)
    return Received(record=record, position=position, log_ms=0, mark=LogMark())


def test_answers_labels_and_letters_are_counted_by_event() -> None:
    back = TopicContents()
    letter = DeadLetter(reason="x", detail="", topic="events.v1", partition=0, offset=1, payload=b"")
    records: list[TopicRecord] = [
        Event(id=id_of(0), text="a"),
        Event(id=id_of(1), text="b"),
        answer(id_of(0), "x"),
        answer(id_of(0), "x"),
        Feedback(event_id=id_of(0), label="x", source="chaos"),
        Feedback(event_id="of somebody else", label="x"),
        letter,
    ]
    for offset, record in enumerate(records):
        back.add(received(record, offset))
    assert back.counts.answers == Counter({0: 2})
    assert back.counts.labels == Counter({0: 1})
    assert (back.counts.num_other_labels, back.num_records) == (1, (2, 2))
    assert back.counts.dead_letters == Counter({1: 1})
    assert [offset for offset, _ in back.topics["feedback.v1/0"]] == [4, 5]
