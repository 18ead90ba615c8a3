"""Where a reader goes on whose position is not in the log any more, and what was lost.

    position below the start of the log (retention)      -> its start; what is between counts as expired
    position above its end, or on a branch that was cut  -> the end of what both logs have, a Loss
    another log (the topic was made anew)                -> its start, a Loss

A log is cut when a broker loses its last records: by a power cut before they were on a disk, or by an unclean election.
The broker finds the cut by the leader epoch of our last record, also when its log has grown past our position since.
Without an epoch only a position above the end is noticed.

Rejected: the client's own reset. To the oldest record it repeats days, to the newest it skips what came after the cut,
and it does both without a word.
"""

from typing import Any, NamedTuple

from kafka.errors import LogTruncationError, OffsetOutOfRangeError  # type: ignore[import-untyped]
from kafka.structs import OffsetAndMetadata  # type: ignore[import-untyped]

from wire.bus.reading import Loss, partition_name
from wire.bus.record_batches import Raw
from wire.records import LogMark

NOT_IN_LOG = (OffsetOutOfRangeError, LogTruncationError)
"""What a poll raises where our position is not in the log, and no policy says where to go on."""


class Return(NamedTuple):
    """Where to go on in one partition: the next offset, how many records before it expired, and the loss, if any.

    `epoch` is the leader epoch of the record before that offset (-1: unknown), by which the next cut is found.
    """

    offset: int
    num_expired: int
    loss: Loss | None
    epoch: int = -1


def seek(consumer: Any, partition: Any, offset: int, epoch: int = -1) -> None:
    """Goes on at `offset`, behind a record of the leader `epoch`, so that the broker notices a log that was cut."""
    consumer.seek(partition, offset)
    consumer._subscription.assignment[partition].seek(OffsetAndMetadata(offset, "", epoch))


def returns(consumer: Any, error: Exception) -> dict[Any, Return]:
    """Returns where to go on in each partition of an error of NOT_IN_LOG. Raises the client's errors."""
    known: dict[Any, Any] = {}
    if isinstance(error, LogTruncationError):
        known = error.divergent_offsets
    # An offset that is out of range says nothing of where the log was cut.
    cuts = known or dict.fromkeys(error.args[0])
    assigned = consumer._subscription.assignment
    positions = {each: assigned[each].position.offset for each in cuts if each in assigned}
    if not positions:
        return {}
    first = consumer.beginning_offsets(list(positions))
    last = consumer.end_offsets(list(positions))
    found: dict[Any, Return] = {}
    for each, position in positions.items():
        cut = cuts[each]
        end = last[each] if cut is None else min(cut.offset, last[each])
        epoch = -1 if cut is None else cut.leader_epoch
        found[each] = return_to(partition_name(each), position, start=first[each], end=end, epoch=epoch)
    return found


def return_to(partition: str, position: int, *, start: int, end: int, epoch: int = -1) -> Return:
    """Returns where to go on in a log whose records from `start` up to `end`, of `epoch`, are those that we know.

    >>> return_to("t/0", 7, start=0, end=5)[:2], return_to("t/0", 7, start=9, end=20)[:2]
    ((5, 0), (9, 2))
    """
    if position > end:
        return Return(max(start, end), 0, Loss(partition, position, end), epoch)
    return Return(max(start, position), max(start - position, 0), None)


def mark_behind(mark: LogMark, raw: Raw) -> LogMark:
    """Returns what is known of the log behind `raw`, where `mark` is known before it."""
    if raw.is_gap:
        return LogMark(log=mark.log, epoch=raw.epoch, log_ms=mark.log_ms, skip_ms=mark.skip_ms)
    skip_ms = mark.skip_ms if was_read(mark, raw) else 0
    return LogMark(log=mark.log, epoch=raw.epoch, log_ms=max(mark.log_ms, raw.appended_ms), skip_ms=skip_ms)


def mark_behind_cut(mark: LogMark, epoch: int) -> LogMark:
    """Returns what is known at the cut of a log: every record from there on is new, whatever its time says."""
    return LogMark(log=mark.log, epoch=epoch, log_ms=mark.log_ms)


def mark_in_new_log(mark: LogMark, log: str) -> LogMark:
    """Returns what is known at the start of another log: what is not newer than the last record was read."""
    return LogMark(log=log, log_ms=mark.log_ms, skip_ms=mark.log_ms)


def was_read(mark: LogMark, raw: Raw) -> bool:
    """Whether `raw` was read before the loss that is behind us, by the broker's clock."""
    return 0 < raw.appended_ms <= mark.skip_ms
