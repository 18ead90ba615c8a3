"""Reads every partition, without a consumer group, from offsets that the reader stores with its own state.

    follow(record_types, offsets) -> poll() -> Followed -> effect and offsets are stored together -> poll()
      '-- Positions: the next offset of each partition, and the mark of the log before it

After a restart, the reader continues at the stored offsets, exactly where the stored effect ends. Records that the
broker has deleted by retention are skipped and counted.

If a log was truncated before our position, or was recreated, the follower reports a Loss. In a truncated log it resumes
after the records that are left (`wire.bus.losses`). In a recreated log it resumes at the start, and skips records that
are not newer, by the broker's clock, than the last record that it had read. So if the new log is a copy of the old one,
no record has its effect twice. The marks, which are stored with the offsets, identify the last record that was read.

To pause a topic, its partitions are unassigned. To resume it, they are assigned again at our position. Records that had
been fetched but not delivered are then fetched again.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from wire.bus.client_errors import map_errors, topic_missing
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.losses import (
    POSITION_ERRORS,
    find_resume_points,
    mark_after,
    mark_after_cut,
    mark_in_new_log,
    resume_point,
    seek,
    was_read,
)
from wire.bus.offsets import Position
from wire.bus.reading import Loss, Received, Refused, TopicReading, by_name, list_partitions, partition_name, read
from wire.bus.record_batches import Raw
from wire.records import LogMark, LogMarks, TopicRecord
from wire.tasks import DEFAULT, TaskNames

log = structlog.get_logger("bus")

TRUNCATED_AFTER_S = 2.0
"""On Tansu a log that ends before our position for this long counts as truncated."""

LEADER_EPOCHS = 23
"""API key of OffsetForLeaderEpoch: brokers that have it tell where a log was truncated."""


class Positions:
    """The next offset of each partition, and the mark of the log before that offset. It belongs to a follower.

    All methods raise the client's errors.
    """

    def __init__(self, consumer: Any, logs: TopicLogs, offsets: Mapping[str, int], marks: LogMarks) -> None:
        self._consumer = consumer
        self._logs = logs
        self._wanted = dict(offsets)
        self._wanted_marks = dict(marks)
        self._losses: list[Loss] = []
        self.next_offsets: dict[Any, int] = {}
        self.marks: dict[Any, LogMark] = {}
        self._num_expired = 0

    def restart_from(self, offsets: Mapping[str, int]) -> None:
        """Continues from `offsets` (`topic/partition` -> next offset); absent partitions are read from their start."""
        self._wanted = dict(offsets)
        self._wanted_marks = {}
        self.start(list(self.next_offsets))

    def start(self, partitions: Collection[Any]) -> None:
        """Starts to read `partitions` at the wanted offsets, or at the start if the log is not the log of the mark."""
        for partition, start in self._consumer.beginning_offsets(list(partitions)).items():
            name = partition_name(partition)
            log_id = self._logs.log_id(partition.topic)
            wanted = self._wanted.get(name, start)
            mark = self._wanted_marks.get(name, LogMark(log=log_id))
            if mark.log and log_id and mark.log != log_id:
                self._start_over(partition, start, mark, Loss(name, wanted, 0, is_replaced=True))
            else:
                self._skip_expired(partition, wanted, start, mark)

    def advance(self, partition: Any, raw: Raw) -> bool:
        """Moves the position after `raw`; returns whether `raw` was read before the last loss."""
        mark = self.marks[partition]
        self.marks[partition] = mark_after(mark, raw)
        # The partition becomes the last of the order in which partitions are fetched, so that none falls behind.
        self.next_offsets.pop(partition)
        self.next_offsets[partition] = raw.next_offset
        return was_read(mark, raw)

    def seek(self, partition: Any) -> None:
        """Makes the client fetch from our position, unless the partition is paused."""
        if partition in self._consumer.assignment():
            seek(self._consumer, partition, self.next_offsets[partition], self.marks[partition].epoch)

    def skip_to(self, time_ms: int) -> None:
        """Skips to the first record that was logged at `time_ms` or later, in partitions that have such a record.

        For the answers of Kafka and Tansu see `fetch_offsets_at` in `wire.bus.bus`.
        """
        for partition, at in self._consumer.offsets_for_times(dict.fromkeys(self.next_offsets, time_ms)).items():
            if at is not None and at.timestamp >= time_ms and at.offset > self.next_offsets[partition]:
                mark = self.marks[partition]
                self._move_to(partition, at.offset, LogMark(log=mark.log, log_ms=mark.log_ms, skip_ms=mark.skip_ms))

    def recover(self, error: Exception) -> None:
        """Resumes in the partitions that a POSITION_ERRORS error names."""
        for partition, point in find_resume_points(self._consumer, error).items():
            mark = self.marks[partition]
            if point.loss is not None:
                self._record_loss(point.loss)
                self._move_to(partition, point.offset, mark_after_cut(mark, point.epoch))
            else:
                self._skip_expired(partition, self.next_offsets[partition], point.offset, mark)

    def recover_at_end(self, partition: Any, end: int) -> None:
        """Resumes at the end of a log that ends before our position."""
        point = resume_point(partition_name(partition), self.next_offsets[partition], start=0, end=end)
        assert point.loss is not None, "the log ends before our position"
        self._record_loss(point.loss)
        self._move_to(partition, point.offset, mark_after_cut(self.marks[partition], point.epoch))

    def restart_recreated(self, topics: Collection[str]) -> bool:
        """Starts over in the topics that were recreated, and returns whether there are any.

        Neither the client library nor Tansu reports a recreated topic.
        """
        recreated = self._logs.find_recreated(topics)
        for topic in recreated:
            self._logs.adopt(topic)
            partitions = [partition for partition in self.next_offsets if partition.topic == topic]
            for partition, start in self._consumer.beginning_offsets(partitions).items():
                loss = Loss(partition_name(partition), self.next_offsets[partition], 0, is_replaced=True)
                self._start_over(partition, start, self.marks[partition], loss)
        return bool(recreated)

    def take_losses(self) -> tuple[int, list[Loss]]:
        """Returns the number of records that expired before they were read, and the losses, since the last call."""
        num_expired = self._num_expired
        losses = self._losses
        self._num_expired = 0
        self._losses = []
        return num_expired, losses

    def _start_over(self, partition: Any, start: int, mark: LogMark, loss: Loss) -> None:
        """Resumes at the start of a log that was recreated."""
        self._record_loss(loss)
        self._move_to(partition, start, mark_in_new_log(mark, self._logs.log_id(partition.topic)))

    def _record_loss(self, loss: Loss) -> None:
        log.warning("log_truncated", reason=str(loss))
        self._losses.append(loss)

    def _skip_expired(self, partition: Any, wanted: int, start: int, mark: LogMark) -> None:
        """Resumes at offset `wanted`, or at the start of the log if the records before the start have expired."""
        if wanted < start:
            self._num_expired += start - wanted
            log.warning("records_expired", partition=partition_name(partition), wanted=wanted, start=start)
            mark = LogMark(log=mark.log, log_ms=mark.log_ms, skip_ms=mark.skip_ms)
        self._move_to(partition, max(wanted, start), mark)

    def _move_to(self, partition: Any, offset: int, mark: LogMark) -> None:
        self.next_offsets[partition] = offset
        self.marks[partition] = mark
        self.seek(partition)


@dataclass(kw_only=True, slots=True)
class Followed:
    """The records of one poll, in order within each partition, and the reader's position after the poll.

    - `received`, `refused`: the records, and the messages that are not valid records.
    - `offsets`: the next offset of every partition.
    - `marks`: the mark of the log before that offset.
    - `losses`: the losses that were noticed since the previous poll.
    - `num_skipped`: the records that were skipped since then, because they had been read before a loss.
    - `num_expired`: the records that retention deleted since then, before they were read.
    """

    received: list[Received[Any]]
    refused: list[Refused]
    offsets: dict[str, int]
    marks: dict[str, LogMark]
    losses: list[Loss]
    num_skipped: int = 0
    num_expired: int = 0


class Follower:
    """Reads all partitions of some topics. It belongs to one thread.

    If `tasks` is set, it returns only the records of the reader's task.

    consumes: the records of all partitions, also of partitions that are added later
    produces: Followed
    waits for: the broker, at most the timeout of the poll
    unblocked by: a record, or the end of the timeout
    """

    def __init__(
        self,
        consumer: Any,
        readings: Mapping[str, TopicReading[TopicRecord]],
        offsets: Mapping[str, int],
        *,
        marks: LogMarks,
        servers: str,
        refused_by: str,
        tasks: TaskNames | None = None,
    ) -> None:
        self._consumer = consumer
        self._tasks = tasks
        self._logs = TopicLogs(consumer)
        self._poll = raw_polls(consumer, self._logs)
        self._has_epochs = LEADER_EPOCHS in consumer._manager.broker_version_data.api_versions
        self._readings = readings
        self._servers = servers
        self._refused_by = refused_by
        self._positions = Positions(consumer, self._logs, offsets, marks)
        # The paused topics.
        self._paused: set[str] = set()
        # Partition -> high watermark of its last fetch.
        self._ends: dict[Any, int] = {}
        # Partition -> the time since which its log has ended before our position.
        self._short_since_s: dict[Any, float] = {}
        self.is_closed = False
        self._assign_new()
        if missing := readings.keys() - {partition.topic for partition in self._positions.next_offsets}:
            raise topic_missing(servers, missing)

    def poll(self, timeout_ms: int, *, wants: Callable[[Raw], bool] | None = None) -> Followed:
        """Waits at most `timeout_ms` for records. Records that `wants` does not want are passed over, unparsed."""
        self._assign_new()
        followed = Followed(received=[], refused=[], offsets={}, marks={}, losses=[])
        for partition, raws in self._fetch(timeout_ms).items():
            for raw in raws:
                self._add(partition, raw, followed, wants)
        followed.offsets.update(by_name(self._positions.next_offsets))
        followed.marks.update({partition_name(partition): mark for partition, mark in self._positions.marks.items()})
        followed.num_expired, followed.losses = self._positions.take_losses()
        return followed

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Continues from `offsets` (`topic/partition` -> next offset); absent partitions are read from their start."""
        with map_errors(self._servers):
            self._positions.restart_from(offsets)

    def skip_to(self, time_ms: int) -> None:
        """Skips the records that were logged before `time_ms`.

        In a partition without a record from `time_ms` on, the position stays.
        """
        with map_errors(self._servers):
            self._positions.skip_to(time_ms)

    def pause(self, record_types: Sequence[type[TopicRecord]]) -> None:
        """Stops the delivery of records of these types until they are resumed. Idempotent."""
        self._set_paused(self._paused | self._topics(record_types))

    def resume(self, record_types: Sequence[type[TopicRecord]]) -> None:
        """Resumes the delivery of records of these types at the position of the pause. Idempotent."""
        self._set_paused(self._paused - self._topics(record_types))

    def lag(self, *record_types: type[TopicRecord]) -> int:
        """Returns the number of records of these types (default: all) that were not delivered yet.

        It never waits for the network: ends of partitions are as old as their last fetch, or as their pause. A
        partition that was not fetched yet counts as one record, so 0 means that all partitions were read to their end.
        """
        topics = self._topics(record_types) if record_types else self._readings
        return sum(
            self._partition_lag(partition) for partition in self._positions.next_offsets if partition.topic in topics
        )

    def close(self) -> None:
        self.is_closed = True
        with map_errors(self._servers):
            self._consumer.close()

    def _add(self, partition: Any, raw: Raw, followed: Followed, wants: Callable[[Raw], bool] | None) -> None:
        was_read = self._positions.advance(partition, raw)
        if raw.is_gap:
            return
        if was_read:
            followed.num_skipped += 1
            return
        if wants is not None and not wants(raw):
            return
        position = Position(topic=raw.topic, partition=raw.partition, offset=raw.next_offset - 1, generation=0)
        item = read(
            raw, self._readings[raw.topic], position, mark=self._positions.marks[partition], refused_by=self._refused_by
        )
        if isinstance(item, Refused):
            # Only the reader of the default task refuses a message: one dead letter is enough for all tasks.
            if self._tasks is None or self._tasks.reader == DEFAULT:
                followed.refused.append(item)
        elif self._tasks is None:
            followed.received.append(item)
        elif (own := self._tasks.for_reader(item.record)) is not None:
            followed.received.append(item if own is item.record else replace(item, record=own))

    def _topics(self, record_types: Sequence[type[TopicRecord]]) -> set[str]:
        return {topic for topic, reading in self._readings.items() if reading.record_type in record_types}

    def _partition_lag(self, partition: Any) -> int:
        if partition not in self._ends:
            return 1
        return max(self._ends[partition] - self._positions.next_offsets[partition], 0)

    def _set_paused(self, topics: set[str]) -> None:
        resumed = self._paused - topics
        if topics == self._paused:
            return
        self._paused = topics
        self._assign(self._active())
        for partition in self._active():
            if partition.topic in resumed:
                self._positions.seek(partition)

    def _active(self) -> list[Any]:
        return [partition for partition in self._positions.next_offsets if partition.topic not in self._paused]

    def _assign(self, partitions: Sequence[Any]) -> None:
        with map_errors(self._servers):
            if partitions:
                self._consumer.assign(partitions)
            else:
                self._consumer.unsubscribe()

    def _fetch(self, timeout_ms: int) -> dict[Any, list[Raw]]:
        with map_errors(self._servers):
            try:
                batches = self._poll(timeout_ms)
            except POSITION_ERRORS as error:
                self._positions.recover(error)
                return {}
            if self._positions.restart_recreated(self._readings):
                # The fetched records may belong to the old logs. They are dropped, and fetched again if they do not.
                for partition in batches:
                    self._positions.seek(partition)
                return {}
        self._record_ends()
        self._check_ends()
        return batches

    def _assign_new(self) -> None:
        topics = [topic for topic in self._readings if topic not in self._paused]
        with map_errors(self._servers):
            partitions = list_partitions(self._consumer, topics)
            self._positions.restart_recreated(self._readings)
        if new := [partition for partition in partitions if partition not in self._positions.next_offsets]:
            self._assign([*self._active(), *new])
            with map_errors(self._servers):
                self._positions.start(new)

    def _record_ends(self) -> None:
        for partition in self._active():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._ends[partition] = end

    def _check_ends(self) -> None:
        """Resumes at the end of a log that has ended before our position for TRUNCATED_AFTER_S.

        This is for brokers without leader epochs, such as Tansu. If our offset is above the end of its log, Tansu sends
        the end and no records, but no error. Kafka reports an error, so nothing is done here. On Kafka, the high
        watermark may also be below our position for a while after an election, although nothing is lost.
        """
        if self._has_epochs:
            return
        now_s = time.monotonic()
        short = {}
        for partition in self._active():
            end = self._ends.get(partition, 0)
            if partition in self._ends and end < self._positions.next_offsets[partition]:
                short[partition] = self._short_since_s.get(partition, now_s)
                if now_s - short[partition] >= TRUNCATED_AFTER_S:
                    self._positions.recover_at_end(partition, end)
        self._short_since_s = short
