"""Reads every partition, without a consumer group, from offsets that the reader stores with its own state.

    follow(record_types, offsets) -> poll() -> Followed -> (effect + offsets stored as one) -> poll()

A restart with the stored offsets continues exactly where the stored effect ends. Records that the broker has deleted
by retention are skipped and counted. A log that ends before our position is an error: then records that had their
effect are gone, and other records will get their offsets. A topic with another log than that of the offsets is an
error, too, wherever it ends.

Topics are paused by giving up their partitions, and resumed by assigning them again at our own position. Records of
them that were fetched meanwhile are fetched again.

Rejected: a group of one (it would commit offsets that nobody may use, and wait for a rebalance at every start), the
client's own pause (kafka-python 3.0.12 sets aside the fetched records of a paused partition, and loses them where
another partition was read meanwhile), and one client for each topic (two threads and two fetches).
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog
from kafka.errors import LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]

from wire.bus.batches import Raw
from wire.bus.client_errors import mapped, topic_missing
from wire.bus.fetched import raw_polls
from wire.bus.reading import Received, Refused, TopicReading, by_name, partition_name, partitions_of, read
from wire.bus.topic_logs import TopicLogs
from wire.errors import LogReplaced, LogTruncated
from wire.finished import Position
from wire.records import TopicRecord
from wire.tasks import DEFAULT, TaskNames

TRUNCATED_AFTER_S = 2.0  # a new leader may not know at once where its log ends

log = structlog.get_logger("bus")


@dataclass(frozen=True, kw_only=True, slots=True)
class Followed:
    """The records of one poll, in order within each partition, and the position of the reader after it.

    `offsets` has the next offset of every partition, `logs` the log of every topic to which these offsets belong.
    """

    received: list[Received[Any]]
    refused: list[Refused]
    offsets: dict[str, int]
    logs: dict[str, str]


class Follower:
    """Reads the partitions of some topics, and gives the records of a task where there are `tasks`. It belongs to one
    thread.

    consumes: the records of all partitions, also of partitions that are added later
    produces: Followed
    waits for: the broker, at most the timeout of the poll
    unblocked by: a record, or the end of the timeout; LogTruncated where a log ends before our position or was replaced
    """

    def __init__(
        self,
        consumer: Any,
        readings: Mapping[str, TopicReading[TopicRecord]],
        offsets: Mapping[str, int],
        *,
        logs: Mapping[str, str],
        servers: str,
        refused_by: str,
        tasks: TaskNames | None = None,
    ) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._logs = TopicLogs(consumer, logs)
        self._poll = raw_polls(consumer, self._logs)
        self._readings = readings
        self._servers = servers
        self._refused_by = refused_by
        self._next: dict[Any, int] = {}  # by partition: the offset after the last delivered record
        self._wanted = dict(offsets)
        self._paused: set[str] = set()  # topics
        self._ends: dict[Any, int] = {}  # by partition: the high watermark of its last fetch
        self._short_since_s: dict[Any, float] = {}  # since when the end of a partition lies before our position
        self.num_expired = 0
        self.is_closed = False
        self._assign_new()
        if missing := readings.keys() - {partition.topic for partition in self._next}:
            raise topic_missing(servers, missing)

    def poll(self, timeout_ms: int) -> Followed:
        """Waits at most `timeout_ms` for records."""
        self._assign_new()
        followed = Followed(received=[], refused=[], offsets={}, logs={})
        for partition, raws in self._fetch(timeout_ms).items():
            for raw in raws:
                if not raw.is_gap:
                    self._add(raw, followed)
            del self._next[partition]  # read last, hence fetched last: no partition falls behind
            self._next[partition] = raws[-1].next_offset
        followed.offsets.update(by_name(self._next))
        followed.logs.update(self._logs.known)
        return followed

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Continues from `offsets` (`topic/partition` -> next offset); absent partitions are read from their start."""
        self._wanted = dict(offsets)
        self._place(list(self._next))

    def pause(self, record_types: Sequence[type[TopicRecord]]) -> None:
        """Stops the delivery of records of these types until they are resumed. Idempotent."""
        self._set_paused(self._paused | self._topics(record_types))

    def resume(self, record_types: Sequence[type[TopicRecord]]) -> None:
        """Continues with records of these types where they were paused. Idempotent."""
        self._set_paused(self._paused - self._topics(record_types))

    def lag(self, *record_types: type[TopicRecord]) -> int:
        """Returns how many records of these types (default: all) were not delivered yet, as of the last fetches.

        Never waits for the network. A partition that was not fetched yet counts as one record, so that 0 means that all
        partitions were read to their end. A paused partition has the end that it had when it was paused.
        """
        topics = self._topics(record_types) if record_types else self._readings
        return sum(self._lag_of(partition) for partition in self._next if partition.topic in topics)

    def close(self) -> None:
        self.is_closed = True
        with mapped(self._servers):
            self._consumer.close()

    def _add(self, raw: Raw, followed: Followed) -> None:
        position = Position(topic=raw.topic, partition=raw.partition, offset=raw.next_offset - 1, generation=0)
        item = read(raw, self._readings[raw.topic], position, log=self._logs.of(raw.topic), refused_by=self._refused_by)
        if isinstance(item, Refused):
            if self._tasks is None or self._tasks.reader == DEFAULT:  # one reader refuses it for all tasks
                followed.refused.append(item)
        elif self._tasks is None:
            followed.received.append(item)
        elif (own := self._tasks.own(item.record)) is not None:
            followed.received.append(replace(item, record=own))

    def _topics(self, record_types: Sequence[type[TopicRecord]]) -> set[str]:
        return {topic for topic, reading in self._readings.items() if reading.record_type in record_types}

    def _lag_of(self, partition: Any) -> int:
        if partition not in self._ends:
            return 1
        return max(self._ends[partition] - self._next[partition], 0)

    def _set_paused(self, topics: set[str]) -> None:
        resumed = self._paused - topics
        if topics == self._paused:
            return
        self._paused = topics
        self._assign(self._active())
        for partition in self._active():
            if partition.topic in resumed:
                self._consumer.seek(partition, self._next[partition])

    def _active(self) -> list[Any]:
        return [partition for partition in self._next if partition.topic not in self._paused]

    def _assign(self, partitions: Sequence[Any]) -> None:
        with mapped(self._servers):
            if partitions:
                self._consumer.assign(partitions)
            else:
                self._consumer.unsubscribe()

    def _fetch(self, timeout_ms: int) -> dict[Any, list[Raw]]:
        with mapped(self._servers):
            try:
                batches = self._poll(timeout_ms)
            except (OffsetOutOfRangeError, LogTruncationError):
                self._return_into_log()
                return {}
        self._check_logs()
        self._record_ends()
        self._check_ends()
        return batches

    def _assign_new(self) -> None:
        topics = [topic for topic in self._readings if topic not in self._paused]
        with mapped(self._servers):
            partitions = partitions_of(self._consumer, topics)
        self._check_logs()
        if new := [partition for partition in partitions if partition not in self._next]:
            self._assign([*self._active(), *new])
            self._place(new)

    def _place(self, partitions: Sequence[Any]) -> None:
        with mapped(self._servers):
            starts = self._consumer.beginning_offsets(partitions)
        for partition in partitions:
            start = starts[partition]
            wanted = self._wanted.get(partition_name(partition), start)
            if wanted < start:
                self.num_expired += start - wanted
                log.warning("records_expired", partition=partition_name(partition), wanted=wanted, start=start)
            self._next[partition] = max(wanted, start)
            if partition.topic not in self._paused:
                self._consumer.seek(partition, self._next[partition])

    def _return_into_log(self) -> None:
        """Continues from the start of a log that begins after our offset; raises LogTruncated where it ends before."""
        for partition, end in self._consumer.end_offsets(list(self._next)).items():
            if self._next[partition] > end:
                raise LogTruncated(partition_name(partition), position=self._next[partition], end=end)
        self.seek(by_name(self._next))

    def _check_logs(self) -> None:
        """Raises LogReplaced where a topic was recreated, which neither the client library nor Tansu reports."""
        for topic in self._logs.recreated(self._readings):
            partitions = [name for name in self._wanted | by_name(self._next) if name.rpartition("/")[0] == topic]
            raise LogReplaced(topic, partitions)

    def _record_ends(self) -> None:
        for partition in self._active():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._ends[partition] = end

    def _check_ends(self) -> None:
        """Raises LogTruncated where a log has ended before our position for TRUNCATED_AFTER_S.

        Tansu does not report such an offset: it sends the end of its log, and no records.
        """
        short = {}
        for partition in self._active():
            position = self._next[partition]
            end = self._ends.get(partition, position)
            if end < position:
                short[partition] = self._short_since_s.get(partition, time.monotonic())
                if time.monotonic() - short[partition] >= TRUNCATED_AFTER_S:
                    raise LogTruncated(partition_name(partition), position=position, end=end)
        self._short_since_s = short
