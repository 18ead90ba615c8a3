"""Parses messages into records or dead-letter records, each with its position, and defines the results of a poll."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]

from wire import traces
from wire.bus.offsets import Position
from wire.bus.record_batches import Raw
from wire.config import BusConfig
from wire.dead_letters import refuse
from wire.envelope import from_message
from wire.errors import BadMessage
from wire.mapping import EventMap, FeedbackMap, FieldMap, field_map
from wire.message import Message, Place
from wire.records import Answer, DeadLetter, Event, Feedback, LogMark, TopicRecord
from wire.registry import RegistryDecoder
from wire.tasks import TaskNames
from wire.traces import TRACEPARENT

R = TypeVar("R", bound=TopicRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class Received(Generic[R]):
    """A record, and the position to finish when its effect is done.

    `log_ms` is the timestamp of the record in its log: the broker's time if the topic has `LogAppendTime`, else the
    time of the sender's client. It is negative if the log has none. `mark` is the mark of the log after the record.
    """

    record: R
    position: Position
    log_ms: int
    mark: LogMark


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A message that is not a valid record. The reader sends the dead-letter record, then finishes the position.

    If the message spans several offsets, the dead-letter record has the first offset, and the position has the last.
    """

    dead_letter: DeadLetter
    position: Position


class Loss(NamedTuple):
    """A loss of records in one partition, which is named `topic/partition`.

    Its log was truncated at offset `end`, before our `position`. If `is_replaced`, the topic was recreated instead, and
    `end` is 0. Records that the broker lost before we had read them cannot be recovered.
    """

    partition: str
    position: int
    end: int
    is_replaced: bool = False

    def __str__(self) -> str:
        if self.is_replaced:
            return f"{self.partition} was recreated: its offsets now belong to other records than the records we read"
        return (
            f"{self.partition} was truncated at {self.end}, before our position {self.position}: "
            "the broker lost records"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll(Generic[R]):
    """The records of one poll, in order within each partition.

    - `received`, `refused`: the records, and the messages that are not valid records.
    - `num_expired`: the records that retention deleted since the previous poll, before they were read.
    - `losses`: the losses that were noticed since the previous poll.
    """

    received: list[Received[R]]
    refused: list[Refused]
    num_expired: int = 0
    losses: Sequence[Loss] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicReading(Generic[R]):
    """How the messages of one topic are parsed.

    - `record_type`: the type of the records.
    - `foreign`: the field map of a topic in a user's format; None for a topic in our format.
    - `passed_on`: the names of headers that a record keeps.
    - `decode`: decodes values that were written with a schema registry.
    - `tasks`: records for other tasks are refused; None: tasks are not checked.
    - `replaces`: whether a label of the topic replaces earlier labels of its event.
    """

    record_type: type[R]
    foreign: FieldMap | None = None
    passed_on: frozenset[str] = frozenset()
    decode: RegistryDecoder | None = None
    tasks: TaskNames | None = None
    replaces: bool = False

    def parse(self, message: Message, place: Place) -> R:
        """Parses `message` and returns its record. Raises BadMessage."""
        record = from_message(
            self.record_type,
            message,
            place,
            foreign=self.foreign,
            passed_on=self.passed_on,
            decode=self.decode,
        )
        if self.tasks is not None:
            self.tasks.check(record)
        # Only the settings decide this: a sender cannot set `replaces` of its own label.
        if isinstance(record, Feedback):
            return cast("R", msgspec.structs.replace(record, replaces=self.replaces))
        return record


def readings(
    config: BusConfig, record_types: Sequence[type[R]], tasks: TaskNames | None = None
) -> dict[str, TopicReading[R]]:
    """Returns topic name -> how its messages are parsed, for our topics and the mapped topics of `record_types`."""
    by_topic: dict[str, TopicReading[R]] = {}
    decode = RegistryDecoder(config.registry) if config.registry.url else None
    maps: dict[type, EventMap | FeedbackMap] = {Event: config.map.events, Feedback: config.map.feedback}
    for record_type in record_types:
        passed_on = _kept_headers(config, record_type)
        by_topic[config.topic_for(cast("type[TopicRecord]", record_type))] = TopicReading(
            record_type=record_type, passed_on=passed_on, decode=decode, tasks=tasks
        )
        section = maps.get(record_type)
        if section is None or not section.topic:
            continue
        mapped = TopicReading(
            record_type=record_type,
            foreign=field_map(section),
            passed_on=passed_on,
            decode=decode,
            tasks=tasks,
            replaces=isinstance(section, FeedbackMap) and section.on_second_label == "replace",
        )
        by_topic |= dict.fromkeys(section.topic, mapped)
    return by_topic


def _kept_headers(config: BusConfig, record_type: type[Any]) -> frozenset[str]:
    """Returns the names of the headers that a record keeps.

    An event keeps the headers of the setting `bus.map.answers.headers`, an answer keeps the trace header.
    """
    if record_type is Event:
        return frozenset(config.map.answers.headers)
    if record_type is Answer and traces.is_on():
        return frozenset({TRACEPARENT})
    return frozenset()


def read(
    raw: Raw, reading: TopicReading[R], position: Position, *, mark: LogMark, refused_by: str
) -> Received[R] | Refused:
    """Parses `raw` into a record, or into a dead-letter record whose source is `refused_by`.

    `mark` is the mark of the log after `raw`.
    """
    message = Message(key=raw.key, value=raw.value, headers=raw.headers, timestamp_ms=raw.timestamp_ms)
    place = Place(topic=raw.topic, partition=raw.partition, offset=raw.offset, log=mark.log)
    try:
        if raw.error is not None:
            raise raw.error
        record = reading.parse(message, place)
        return Received(record=record, position=position, log_ms=raw.timestamp_ms, mark=mark)
    except BadMessage as error:
        return Refused(dead_letter=refuse(error, message, place, source=refused_by), position=position)


def list_partitions(consumer: Any, topics: Iterable[str]) -> list[Any]:
    """Returns all known partitions of `topics`, in the order of `topics` and their numbers.

    For a topic that it does not know, the consumer asks the broker.
    """
    partitions: list[Any] = []
    for topic in topics:
        numbers = sorted(consumer.partitions_for_topic(topic))
        partitions.extend(TopicPartition(topic, number) for number in numbers)
    return partitions


def partition_name(partition: Any) -> str:
    """Returns `topic/partition`, the key of offsets outside this package."""
    return f"{partition.topic}/{partition.partition}"


def by_name(offsets: Mapping[Any, int]) -> dict[str, int]:
    """Returns the offsets with `topic/partition` as keys."""
    return {partition_name(partition): offset for partition, offset in offsets.items()}
