"""Determines where a reader resumes if its position is no longer in the log, and what was lost.

    position below the start of the log (retention)            -> its start; the records in between count as expired
    position above its end, or after a point of truncation     -> the end of the part that is left, and a Loss
    another log (the topic was recreated)                      -> its start, and a Loss

A log is truncated when a broker loses its last records: in a power failure before they were on a disk, or by an unclean
leader election. The broker finds the point of truncation by the leader epoch of our last record, even if the log has
grown beyond our position since then. If the epoch is unknown, a truncation is noticed only if our position is above the
end of the log.

Rejected: the client's `auto_offset_reset`. A reset to the oldest record repeats days of records, a reset to the newest
record skips the records after the truncation, and both happen silently.
"""

from typing import Any, NamedTuple

from kafka.errors import LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.bus.reading import Loss, partition_name
from wire.bus.record_batches import Raw
from wire.records import LogMark

POSITION_ERRORS = (OffsetOutOfRangeError, LogTruncationError)
"""The errors that a poll raises if our position is not in the log: no reset policy is set."""


class ResumePoint(NamedTuple):
    """Where to resume in one partition: the next offset, the number of records that expired before it, and the loss.

    `epoch` is the leader epoch of the record before that offset (-1: unknown). The broker finds the next truncation by
    this epoch.
    """

    offset: int
    num_expired: int
    loss: Loss | None
    epoch: int = -1


def seek(consumer: Any, partition: Any, offset: int, epoch: int = -1) -> None:
    """Moves the consumer to `offset`. `epoch` is the leader epoch of the record before `offset`.

    The broker compares the epoch with its log and so detects a truncated log.
    """
    consumer.seek(partition, offset)
    consumer._subscription.assignment[partition].seek(OffsetAndMetadata(offset, "", epoch))


def find_resume_points(consumer: Any, error: Exception) -> dict[Any, ResumePoint]:
    """Returns where to resume in each partition that a POSITION_ERRORS error names. Raises the client's errors.

    It also corrects the client's high watermarks of these partitions. In an incremental fetch session (KIP-227), a
    broker does not repeat a watermark that it sent with the error, so the lag would count the lost records until the
    next record arrives.
    """
    known: dict[Any, Any] = {}
    if isinstance(error, LogTruncationError):
        known = error.divergent_offsets
    # An OffsetOutOfRangeError does not tell where the log was truncated.
    truncations = known or dict.fromkeys(error.args[0])
    assigned = consumer._subscription.assignment
    positions = {partition: assigned[partition].position.offset for partition in truncations if partition in assigned}
    if not positions:
        return {}
    first = consumer.beginning_offsets(list(positions))
    last = consumer.end_offsets(list(positions))
    points: dict[Any, ResumePoint] = {}
    for partition, position in positions.items():
        assigned[partition].highwater = last[partition]
        truncation = truncations[partition]
        end = last[partition]
        epoch = -1
        if truncation is not None:
            end = min(truncation.offset, end)
            epoch = truncation.leader_epoch
        name = partition_name(partition)
        points[partition] = resume_point(name, position, start=first[partition], end=end, epoch=epoch)
    return points


def resume_point(partition: str, position: int, *, start: int, end: int, epoch: int = -1) -> ResumePoint:
    """Returns where to resume in a log from our `position`.

    `start` is the start of the log. `end` is its end, or the point where it was truncated if that is lower. `epoch` is
    the leader epoch of the last record below `end`.

    >>> resume_point("t/0", 7, start=0, end=5)[:2], resume_point("t/0", 7, start=9, end=20)[:2]
    ((5, 0), (9, 2))
    """
    if position > end:
        return ResumePoint(max(start, end), 0, Loss(partition, position, end), epoch)
    return ResumePoint(max(start, position), max(start - position, 0), None)


def mark_after(mark: LogMark, raw: Raw) -> LogMark:
    """Returns the mark of the log after `raw`, given the mark before it."""
    if raw.is_gap:
        return LogMark(log=mark.log, epoch=raw.epoch, log_ms=mark.log_ms, skip_ms=mark.skip_ms)
    skip_ms = mark.skip_ms if was_read(mark, raw) else 0
    return LogMark(log=mark.log, epoch=raw.epoch, log_ms=max(mark.log_ms, raw.appended_ms), skip_ms=skip_ms)


def mark_after_cut(mark: LogMark, epoch: int) -> LogMark:
    """Returns the mark at the point where a log was truncated: every record after it is new, regardless of its time."""
    return LogMark(log=mark.log, epoch=epoch, log_ms=mark.log_ms)


def mark_in_new_log(mark: LogMark, log: str) -> LogMark:
    """Returns the mark at the start of another log: records not newer than the last record that we read are skipped."""
    return LogMark(log=log, log_ms=mark.log_ms, skip_ms=mark.log_ms)


def was_read(mark: LogMark, raw: Raw) -> bool:
    """Whether `raw` was read before the last loss, by the broker's clock."""
    return 0 < raw.appended_ms <= mark.skip_ms
