"""Reads every partition, without a consumer group, from offsets that the reader stores with its own state.

    follow(record_types, offsets) -> poll() -> Followed -> (effect + offsets stored as one) -> poll()
      '-- Positions: the next offset of each partition, and the mark of the log before it

A restart with the stored offsets continues exactly where the stored effect ends. Records that the broker has deleted
by retention are skipped and counted. A log that was cut before our position, or is another one, is a Loss: the follower
goes on behind what is left of what it has read (`wire.bus.losses`), and skips records that are not newer, by the
broker's clock, than the last one that it had read. So a copy of the log in its place has no effect a second time. The
marks, which are stored with the offsets, say what was read.

Topics are paused by giving up their partitions, and resumed by assigning them again at our own position. Records of
them that were fetched meanwhile are fetched again.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import structlog

from wire.bus.client_errors import mapped, topic_missing
from wire.bus.fetching import TopicLogs, raw_polls
from wire.bus.losses import (
    NOT_IN_LOG,
    mark_behind,
    mark_behind_cut,
    mark_in_new_log,
    return_to,
    returns,
    seek,
    was_read,
)
from wire.bus.offsets import Position
from wire.bus.reading import Loss, Received, Refused, TopicReading, by_name, partition_name, partitions_of, read
from wire.bus.record_batches import Raw
from wire.records import LogMark, LogMarks, TopicRecord
from wire.tasks import DEFAULT, TaskNames

log = structlog.get_logger("bus")

TRUNCATED_AFTER_S = 2.0  # on Tansu
LEADER_EPOCHS = 23  # OffsetForLeaderEpoch: the API key of brokers that say where a log was cut


class Positions:
    """The next offset of each partition, and the mark of the log before it. It belongs to a follower.

    All methods raise the client's errors.
    """

    def __init__(self, consumer: Any, logs: TopicLogs, offsets: Mapping[str, int], marks: LogMarks) -> None:
        self._consumer = consumer
        self._logs = logs
        self._wanted = dict(offsets)
        self._wanted_marks = dict(marks)
        self._losses: list[Loss] = []
        self.next: dict[Any, int] = {}
        self.marks: dict[Any, LogMark] = {}
        self._num_expired = 0

    def move(self, offsets: Mapping[str, int]) -> None:
        """Continues from `offsets` (`topic/partition` -> next offset); absent partitions are read from their start."""
        self._wanted = dict(offsets)
        self._wanted_marks = {}
        self.place(list(self.next))

    def place(self, partitions: Collection[Any]) -> None:
        """Begins in `partitions` where it is wanted: at the start, where the log is not the one of the mark."""
        for partition, start in self._consumer.beginning_offsets(list(partitions)).items():
            name = partition_name(partition)
            log_id = self._logs.of(partition.topic)
            wanted = self._wanted.get(name, start)
            mark = self._wanted_marks.get(name, LogMark(log=log_id))
            if mark.log and log_id and mark.log != log_id:
                self._start_over(partition, start, mark, Loss(name, wanted, 0, is_replaced=True))
            else:
                self._expire(partition, wanted, start, mark)

    def pass_by(self, partition: Any, raw: Raw) -> bool:
        """Goes on behind `raw`; returns whether it was read before a loss."""
        mark = self.marks[partition]
        self.marks[partition] = mark_behind(mark, raw)
        self.next.pop(partition)  # read last, hence fetched last: no partition falls behind
        self.next[partition] = raw.next_offset
        return was_read(mark, raw)

    def seek(self, partition: Any) -> None:
        """Lets the client fetch from our position, if the partition is not paused."""
        if partition in self._consumer.assignment():
            seek(self._consumer, partition, self.next[partition], self.marks[partition].epoch)

    def skip_to(self, time_ms: int) -> None:
        """Goes on to the first record that was logged at `time_ms` or later, where there is one (see `offsets_at`)."""
        for partition, at in self._consumer.offsets_for_times(dict.fromkeys(self.next, time_ms)).items():
            if at is not None and at.timestamp >= time_ms and at.offset > self.next[partition]:
                mark = self.marks[partition]
                self._go_on(partition, at.offset, LogMark(log=mark.log, log_ms=mark.log_ms, skip_ms=mark.skip_ms))

    def return_into_log(self, error: Exception) -> None:
        """Continues in the log, in the partitions of an error of NOT_IN_LOG."""
        for partition, back in returns(self._consumer, error).items():
            mark = self.marks[partition]
            if back.loss is not None:
                self._note(back.loss)
                self._go_on(partition, back.offset, mark_behind_cut(mark, back.epoch))
            else:
                self._expire(partition, self.next[partition], back.offset, mark)

    def return_to_end(self, partition: Any, end: int) -> None:
        """Continues at the end of a log that ends before our position."""
        back = return_to(partition_name(partition), self.next[partition], start=0, end=end)
        assert back.loss is not None, "it ends before our position"
        self._note(back.loss)
        self._go_on(partition, back.offset, mark_behind_cut(self.marks[partition], back.epoch))

    def follow_new_logs(self, topics: Collection[str]) -> bool:
        """Starts over in those of `topics` that were made anew, which neither the client library nor Tansu reports.

        Returns whether there are any."""
        recreated = self._logs.recreated(topics)
        for topic in recreated:
            self._logs.adopt(topic)
            partitions = [partition for partition in self.next if partition.topic == topic]
            for partition, start in self._consumer.beginning_offsets(partitions).items():
                loss = Loss(partition_name(partition), self.next[partition], 0, is_replaced=True)
                self._start_over(partition, start, self.marks[partition], loss)
        return bool(recreated)

    def take(self) -> tuple[int, list[Loss]]:
        """Returns how many records had expired before they were read, and the losses, since the last call."""
        taken = self._num_expired, self._losses
        self._num_expired = 0
        self._losses = []
        return taken

    def _start_over(self, partition: Any, start: int, mark: LogMark, loss: Loss) -> None:
        """Continues at the start of a log that was made anew."""
        self._note(loss)
        self._go_on(partition, start, mark_in_new_log(mark, self._logs.of(partition.topic)))

    def _note(self, loss: Loss) -> None:
        log.warning("log_truncated", reason=str(loss))
        self._losses.append(loss)

    def _expire(self, partition: Any, wanted: int, start: int, mark: LogMark) -> None:
        """Continues at `wanted`, or at the start of a log whose records before that have expired."""
        if wanted < start:
            self._num_expired += start - wanted
            log.warning("records_expired", partition=partition_name(partition), wanted=wanted, start=start)
            mark = LogMark(log=mark.log, log_ms=mark.log_ms, skip_ms=mark.skip_ms)
        self._go_on(partition, max(wanted, start), mark)

    def _go_on(self, partition: Any, offset: int, mark: LogMark) -> None:
        self.next[partition] = offset
        self.marks[partition] = mark
        self.seek(partition)


@dataclass(kw_only=True, slots=True)
class Followed:
    """The records of one poll, in order within each partition, and the position of the reader after it.

    `offsets` has the next offset of every partition, and `marks` what is known of the log before it. Since the poll
    before, `num_expired` records had been deleted by retention before they were read, `num_skipped` were left out that
    had been read before a loss, and `losses` were noticed.
    """

    received: list[Received[Any]]
    refused: list[Refused]
    offsets: dict[str, int]
    marks: dict[str, LogMark]
    losses: list[Loss]
    num_skipped: int = 0
    num_expired: int = 0


class Follower:
    """Reads the partitions of some topics, and gives the records of a task where there are `tasks`. It belongs to one
    thread.

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
        self._logs = TopicLogs(consumer, known={})
        self._poll = raw_polls(consumer, self._logs)
        self._has_epochs = LEADER_EPOCHS in consumer._manager.broker_version_data.api_versions
        self._readings = readings
        self._servers = servers
        self._refused_by = refused_by
        self._positions = Positions(consumer, self._logs, offsets, marks)
        self._paused: set[str] = set()  # topics
        self._ends: dict[Any, int] = {}  # by partition: the high watermark of its last fetch
        self._short_since_s: dict[Any, float] = {}  # since when the end of a partition lies before our position
        self.is_closed = False
        self._assign_new()
        if missing := readings.keys() - {partition.topic for partition in self._positions.next}:
            raise topic_missing(servers, missing)

    def poll(self, timeout_ms: int) -> Followed:
        """Waits at most `timeout_ms` for records."""
        self._assign_new()
        followed = Followed(received=[], refused=[], offsets={}, marks={}, losses=[])
        for partition, raws in self._fetch(timeout_ms).items():
            for raw in raws:
                self._add(partition, raw, followed)
        followed.offsets.update(by_name(self._positions.next))
        followed.marks.update({partition_name(partition): mark for partition, mark in self._positions.marks.items()})
        followed.num_expired, followed.losses = self._positions.take()
        return followed

    def seek(self, offsets: Mapping[str, int]) -> None:
        """Continues from `offsets` (`topic/partition` -> next offset); absent partitions are read from their start."""
        with mapped(self._servers):
            self._positions.move(offsets)

    def skip_to(self, time_ms: int) -> None:
        """Skips the records that were logged before `time_ms`, in the partitions of which the broker knows it."""
        with mapped(self._servers):
            self._positions.skip_to(time_ms)

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
        return sum(self._lag_of(partition) for partition in self._positions.next if partition.topic in topics)

    def close(self) -> None:
        self.is_closed = True
        with mapped(self._servers):
            self._consumer.close()

    def _add(self, partition: Any, raw: Raw, followed: Followed) -> None:
        was_read = self._positions.pass_by(partition, raw)
        if raw.is_gap:
            return
        if was_read:
            followed.num_skipped += 1
            return
        position = Position(topic=raw.topic, partition=raw.partition, offset=raw.next_offset - 1, generation=0)
        item = read(
            raw, self._readings[raw.topic], position, mark=self._positions.marks[partition], refused_by=self._refused_by
        )
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
        return max(self._ends[partition] - self._positions.next[partition], 0)

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
        return [partition for partition in self._positions.next if partition.topic not in self._paused]

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
            except NOT_IN_LOG as error:
                self._positions.return_into_log(error)
                return {}
            if self._positions.follow_new_logs(self._readings):
                for partition in batches:  # what was fetched may be of the old logs; if it is not, it is fetched again
                    self._positions.seek(partition)
                return {}
        self._record_ends()
        self._check_ends()
        return batches

    def _assign_new(self) -> None:
        topics = [topic for topic in self._readings if topic not in self._paused]
        with mapped(self._servers):
            partitions = partitions_of(self._consumer, topics)
            self._positions.follow_new_logs(self._readings)
        if new := [partition for partition in partitions if partition not in self._positions.next]:
            self._assign([*self._active(), *new])
            with mapped(self._servers):
                self._positions.place(new)

    def _record_ends(self) -> None:
        for partition in self._active():
            end = self._consumer.highwater(partition)
            if end is not None:
                self._ends[partition] = end

    def _check_ends(self) -> None:
        """Notices a log that has ended before our position for TRUNCATED_AFTER_S, on a broker that knows no epochs.

        Tansu does not report such an offset: it sends the end of its log, and no records. Kafka does, and its high
        watermark may lie before our position for a while after an election, though nothing is lost.
        """
        if self._has_epochs:
            return
        now_s = time.monotonic()
        short = {}
        for partition in self._active():
            end = self._ends.get(partition, 0)
            if partition in self._ends and end < self._positions.next[partition]:
                short[partition] = self._short_since_s.get(partition, now_s)
                if now_s - short[partition] >= TRUNCATED_AFTER_S:
                    self._positions.return_to_end(partition, end)
        self._short_since_s = short
