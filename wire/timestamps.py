"""Times of records: Unix time in milliseconds, and RFC 3339 in the headers of messages."""

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

MAX_TIME_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, which is the last year of RFC 3339."""


def now_ms() -> int:
    """Returns Unix time in milliseconds. It may jump: measure durations with `time.monotonic`."""
    return time.time_ns() // 1_000_000


def clamped_ms(timestamp_ms: int) -> int:
    """Clamps a timestamp of Kafka, which may be any 64-bit number, to the times that a record can have."""
    return min(max(timestamp_ms, 0), MAX_TIME_MS)


def is_time(time_ms: int) -> bool:
    """Whether a record can have this time."""
    return 0 <= time_ms <= MAX_TIME_MS


def to_rfc3339(time_ms: int) -> str:
    """Returns `time_ms` as a text of RFC 3339. Raises ValueError if a record cannot have this time.

    >>> to_rfc3339(1_500)
    '1970-01-01T00:00:01.500Z'
    """
    if not is_time(time_ms):
        raise ValueError(f"time_ms is {time_ms}; give milliseconds since 1970, up to the year 9999")
    time = EPOCH + timedelta(milliseconds=time_ms)
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def from_rfc3339(text: str) -> int:
    """Parses a `ce_time` header, and returns milliseconds since 1970. Raises BadMessage."""
    # Imported here, because the command line needs the clock at its start, and no records.
    from wire.errors import BadMessage
    from wire.message import quote_text

    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise BadMessage("undecodable", f"ce_time is {quote_text(text)}, expected a time of RFC 3339") from error
    if time.tzinfo is None:
        raise BadMessage("undecodable", f"ce_time {quote_text(text)} has no time zone")
    return (time - EPOCH) // timedelta(milliseconds=1)
