"""What a reader gets: records and refusals, each with its position."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from kafka import TopicPartition  # type: ignore[import-untyped]

from wire.bus.batches import Raw
from wire.envelope import Message, Place, from_message
from wire.errors import BadMessage
from wire.finished import Position
from wire.letters import refuse
from wire.records import DeadLetter, TopicRecord

R = TypeVar("R", bound=TopicRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class Received(Generic[R]):
    """A record, and the position to finish once its effect is there."""

    record: R
    position: Position


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """What is no record: send the dead letter, then finish the position.

    Where it is a run of offsets, the letter names the first of them, and the position is the last.
    """

    dead_letter: DeadLetter
    position: Position


def read(raw: Raw, record_type: type[R], position: Position, *, log: str, refused_by: str) -> Received[R] | Refused:
    """What lies in `log` as a record, or as a dead letter that names `refused_by` as its source."""
    message = Message(key=raw.key, value=raw.value, headers=raw.headers, timestamp_ms=raw.timestamp_ms)
    place = Place(topic=raw.topic, partition=raw.partition, offset=raw.offset, log=log)
    try:
        if raw.error is not None:
            raise raw.error
        return Received(record=from_message(record_type, message, place), position=position)
    except BadMessage as error:
        return Refused(dead_letter=refuse(error, message, place, source=refused_by), position=position)


def partitions_of(consumer: Any, topics: Sequence[str]) -> list[Any]:
    """All partitions of `topics` that the consumer knows of; it asks the broker for topics that it does not know."""
    return [
        TopicPartition(topic, number) for topic in topics for number in sorted(consumer.partitions_for_topic(topic))
    ]


def partition_name(partition: Any) -> str:
    """`topic/partition`, as offsets are named outside of this door."""
    return f"{partition.topic}/{partition.partition}"


def named(offsets: Mapping[Any, int]) -> dict[str, int]:
    """Offsets by `topic/partition`."""
    return {partition_name(partition): offset for partition, offset in offsets.items()}
