"""Tests the records of topics: their names, their partitions, and their ids."""

import pytest

from wire.records import (
    TOPIC_RECORDS,
    Answer,
    DeadLetter,
    Event,
    Feedback,
    Quarantined,
)


@pytest.mark.parametrize(
    "record", [Event, Answer, Feedback, DeadLetter, Quarantined], ids=lambda record: record.__name__
)
def test_topics_and_types_carry_the_version(record: type[Event]) -> None:
    topic, _, topic_version = record.TOPIC.rpartition(".")
    _, _, type_version = record.TYPE.rpartition(".")
    assert topic
    assert topic_version == "v1"
    assert type_version == "v1"


def test_no_two_records_share_a_topic_or_a_type() -> None:
    assert len({record.TOPIC for record in TOPIC_RECORDS}) == len(TOPIC_RECORDS)
    assert len({record.TYPE for record in TOPIC_RECORDS}) == len(TOPIC_RECORDS)


def test_an_event_without_a_key_is_its_own_entity() -> None:
    assert Event(id="e1", text="a").entity == "e1"
    assert Event(id="e1", text="a", key="c").entity == "c"


def test_all_labels_of_an_event_are_in_one_partition() -> None:
    labels = [Feedback(event_id="e1", label=label, key=key, source=key) for label, key in (("a", "x"), ("b", "y"))]
    assert {label.entity for label in labels} == {"e1"}
    assert len({label.message_id for label in labels}) == 2
