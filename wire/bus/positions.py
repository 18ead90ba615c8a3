"""Where a follower is in each partition, and where it goes on when its position is not in the log any more.

    place(partitions) -> next, marks --pass_by(raw)--> next, marks      a loss or a new log --> next, marks, take

Rejected: an error for the reader (each would have to find the place to go on, and to know again what it has read).
"""

from collections.abc import Collection, Mapping
from typing import Any

import structlog

from wire.bus.batches import Raw
from wire.bus.losses import mark_behind, mark_behind_cut, mark_in_new_log, return_to, returns, seek, was_read
from wire.bus.reading import Loss, partition_name
from wire.bus.topic_logs import TopicLogs
from wire.records import LogMark, LogMarks

log = structlog.get_logger("bus")


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
