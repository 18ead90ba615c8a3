"""The contents of the topics, by the number of the event."""

from collections import Counter

import msgspec
import pytest

from evals.load.ledger import EventIds, Ledger
from evals.load.readback import TopicContents, read_back
from evals.load.score import Audit, audit
from evals.streams.stream import StreamItem
from tests.evals.load.test_ledger import answer
from wire.bus import Bus, Received
from wire.bus.offsets import Position
from wire.records import Answer, DeadLetter, Event, Feedback, LogMark, TopicRecord

IDS = EventIds("chaos")


def received(record: TopicRecord, offset: int) -> Received[TopicRecord]:
    position = Position(topic=record.TOPIC, partition=0, offset=offset, generation=1)
    return Received(record=record, position=position, log_ms=0, mark=LogMark())


def test_answers_labels_and_dead_letters_are_counted_by_event() -> None:
    back = TopicContents(IDS.number_of, sources=("chaos", "http/chaos"), keeps=True)
    letter = DeadLetter(reason="x", detail="", topic="events.v1", partition=0, offset=1, payload=b"")
    records: list[TopicRecord] = [
        Event(id=IDS.of(0), text="a", source="chaos"),
        Event(id=IDS.of(1), text="b", source="http/chaos"),
        msgspec.structs.replace(answer(IDS.of(0), "x"), source="chaos"),
        msgspec.structs.replace(answer(IDS.of(0), "x"), source="chaos"),
        Feedback(event_id=IDS.of(0), label="x", source="chaos"),
        Feedback(event_id="of somebody else", label="x"),
        letter,
        msgspec.structs.replace(answer(IDS.of(2), "x"), source="http/chaos"),
        Event(id=IDS.of(0), text="a", source="mallory"),
        msgspec.structs.replace(answer(IDS.of(0), "x"), source="mallory"),
    ]
    for offset, record in enumerate(records):
        back.add(received(record, offset))
    assert back.answers == Counter({0: 2, 2: 1})
    assert back.labels == Counter({0: 1})
    assert (back.num_other_labels, back.num_records[Answer.TOPIC], back.num_records[Feedback.TOPIC]) == (1, 4, 2)
    assert back.refused == Counter({1: 1})
    assert [offset for offset, _ in back.topics["feedback.v1/0"]] == [4, 5]


@pytest.mark.live
def test_missing_and_duplicate_answers_are_counted_and_other_runs_are_not(bus: Bus) -> None:
    ledger = Ledger("run")
    ids = [ledger.record_event(StreamItem("a", "x"), stage=0, time_ms=0) for _ in range(4)]
    letter = DeadLetter(reason="oversized", detail="", topic="events.v1", partition=0, offset=0, payload=b"")
    answers = [answer(event_id, "x") for event_id in (*ids[:3], ids[0], "of another run")]
    bus.publisher().send_all([*answers, letter], 30.0)
    found = read_back(bus, TopicContents(ledger.number_of), [Answer, DeadLetter])
    assert audit(4, found.answers) == Audit(found=3, lost=1, duplicates=1)
    assert len(found.dead_letters) == 1
