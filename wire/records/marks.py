"""What a reader knows of a log at its position, beside the offset."""

from collections.abc import Mapping
from typing import TypeAlias

from wire.records.record import Record


class LogMark(Record, frozen=True, kw_only=True):
    """What is known of the last record before an offset: an offset alone does not say whether the log still has it.

    `log` is the id of its log ("": unknown), `epoch` that of the leader that wrote it (-1: unknown), and `log_ms` the
    latest time of the records so far by the broker's clock (0: the clock is the senders'). After a loss, records that
    are not newer than `skip_ms` are skipped, since they were read before (0: none).
    """

    log: str = ""
    epoch: int = -1
    log_ms: int = 0
    skip_ms: int = 0


LogMarks: TypeAlias = Mapping[str, LogMark]
"""Marks by `topic/partition`."""
