"""Times of records: milliseconds since 1970 by the machine's clock, and RFC 3339 in the headers of messages."""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIME_MS = 253_402_300_799_999  # the last millisecond of the year 9999, where RFC 3339 ends


def now_ms() -> int:
    """Returns Unix time in milliseconds, on which every process of one machine agrees. Spans need `time.monotonic`."""
    return time.time_ns() // 1_000_000


def clamped_ms(timestamp_ms: int) -> int:
    """Returns the time that a record can carry which is nearest to a timestamp of Kafka, any 64-bit number."""
    return min(max(timestamp_ms, 0), MAX_TIME_MS)


def is_time(time_ms: int) -> bool:
    """Whether a record can carry `time_ms`."""
    return 0 <= time_ms <= MAX_TIME_MS


def to_rfc3339(time_ms: int) -> str:
    """Returns `time_ms` as text. Raises ValueError where a record cannot carry it.

    >>> to_rfc3339(1_500)
    '1970-01-01T00:00:01.500Z'
    """
    if not is_time(time_ms):
        raise ValueError(f"time_ms is {time_ms}; give milliseconds since 1970, up to the year 9999")
    time = EPOCH + timedelta(milliseconds=time_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> int:
    """Returns the milliseconds since 1970 that `text`, a `ce_time` header, stands for. Raises BadMessage."""
    # Not at the top: the command line needs the clock before a command runs, and no records.
    from wire.errors import BadMessage
    from wire.message import shown

    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMessage("undecodable", f"ce_time is {shown(text)}, no time of RFC 3339") from error
    if time.tzinfo is None:
        raise BadMessage("undecodable", f"ce_time {shown(text)} has no time zone")
    return (time - EPOCH) // timedelta(milliseconds=1)
