"""The results of reading: records and refusals, each with its position, and what the broker has lost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar, cast

import msgspec
from kafka import TopicPartition  # type: ignore[import-untyped]

from wire import traces
from wire.bus.offsets import Position
from wire.bus.record_batches import Raw
from wire.config import BusConfig
from wire.envelope import from_message
from wire.errors import BadMessage
from wire.letters import refuse
from wire.mapping import EventMap, FeedbackMap, FieldMap, field_map
from wire.message import Message, Place
from wire.records import Answer, DeadLetter, Event, Feedback, LogMark, TopicRecord
from wire.registry import RegistryDecoder
from wire.tasks import TaskNames
from wire.traces import TRACEPARENT

R = TypeVar("R", bound=TopicRecord)


@dataclass(frozen=True, kw_only=True, slots=True)
class Received(Generic[R]):
    """A record, and the position to finish once its effect is done.

    `log_ms` is the time of the record in its log: that of the broker where the topic has `LogAppendTime`, else that of
    the sender's client. It is negative where the log has none. `mark` says what is known of the log behind the record.
    """

    record: R
    position: Position
    log_ms: int
    mark: LogMark


@dataclass(frozen=True, kw_only=True, slots=True)
class Refused:
    """A message that is no record. The reader sends the dead letter, then finishes the position.

    Where it spans several offsets, the letter names the first of them, and the position has the last.
    """

    dead_letter: DeadLetter
    position: Position


class Loss(NamedTuple):
    """A partition whose log was cut at `end`, before our `position`, or is another one (`end` 0).

    What the broker lost is lost, unless we have read it. `partition` is `topic/partition`.
    """

    partition: str
    position: int
    end: int
    is_replaced: bool = False

    def __str__(self) -> str:
        if self.is_replaced:
            return f"{self.partition} was made anew: its offsets stand for other records than those we have read"
        return f"{self.partition} was cut at {self.end}, before our position {self.position}: the broker lost records"


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll(Generic[R]):
    """The records of one poll, in order within each partition.

    `num_expired` records were deleted by retention before they were read, and `losses` noticed, since the poll before.
    """

    received: list[Received[R]]
    refused: list[Refused]
    num_expired: int = 0
    losses: Sequence[Loss] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicReading(Generic[R]):
    """How the messages of a topic are read: as which record, by which map (None: they are ours), with which headers.

    `decode` reads those that were written with a schema registry. What is for none of `tasks` is refused (None: nobody
    asks). `replaces` says whether the labels of the topic take the place of those before them.
    """

    record_type: type[R]
    foreign: FieldMap | None = None
    passed_on: frozenset[str] = frozenset()
    decode: RegistryDecoder | None = None
    tasks: TaskNames | None = None
    replaces: bool = False

    def record_in(self, message: Message, place: Place) -> R:
        """Returns the record in a message. Raises BadMessage."""
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
        if isinstance(record, Feedback):  # no sender says so of its own label
            return cast("R", msgspec.structs.replace(record, replaces=self.replaces))
        return record


def readings(
    config: BusConfig, record_types: Sequence[type[R]], tasks: TaskNames | None = None
) -> dict[str, TopicReading[R]]:
    """Returns how each topic of `record_types` is read, by its name: ours, and those that are mapped."""
    found: dict[str, TopicReading[R]] = {}
    decode = RegistryDecoder(config.registry) if config.registry.url else None
    maps: dict[type, EventMap | FeedbackMap] = {Event: config.map.events, Feedback: config.map.feedback}
    for record_type in record_types:
        passed_on = _passed_on(config, record_type)
        found[config.topic_of(cast("type[TopicRecord]", record_type))] = TopicReading(
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
        found |= dict.fromkeys(section.topic, mapped)
    return found


def _passed_on(config: BusConfig, record_type: type[Any]) -> frozenset[str]:
    """Returns the headers that a record keeps: an event those of the settings, an answer that of a trace."""
    if record_type is Event:
        return frozenset(config.map.answers.headers)
    return frozenset({TRACEPARENT}) if record_type is Answer and traces.is_on() else frozenset()


def read(
    raw: Raw, reading: TopicReading[R], position: Position, *, mark: LogMark, refused_by: str
) -> Received[R] | Refused:
    """Returns `raw`, behind which `mark` is known of the log, as a record, or as a dead letter of `refused_by`."""
    message = Message(key=raw.key, value=raw.value, headers=raw.headers, timestamp_ms=raw.timestamp_ms)
    place = Place(topic=raw.topic, partition=raw.partition, offset=raw.offset, log=mark.log)
    try:
        if raw.error is not None:
            raise raw.error
        record = reading.record_in(message, place)
        return Received(record=record, position=position, log_ms=raw.timestamp_ms, mark=mark)
    except BadMessage as error:
        return Refused(dead_letter=refuse(error, message, place, source=refused_by), position=position)


def partitions_of(consumer: Any, topics: Iterable[str]) -> list[Any]:
    """Returns all known partitions of `topics`, by topic and number; the consumer asks the broker for new topics."""
    partitions: list[Any] = []
    for topic in topics:
        numbers = sorted(consumer.partitions_for_topic(topic))
        partitions.extend(TopicPartition(topic, number) for number in numbers)
    return partitions


def partition_name(partition: Any) -> str:
    """Returns `topic/partition`, the key of offsets outside of this package."""
    return f"{partition.topic}/{partition.partition}"


def by_name(offsets: Mapping[Any, int]) -> dict[str, int]:
    """Returns the offsets by `topic/partition`."""
    return {partition_name(partition): offset for partition, offset in offsets.items()}
