"""The clock of the records."""

import time


def now_ms() -> int:
    """Returns Unix time in milliseconds, on which every process of one machine agrees. Spans need `time.monotonic`."""
    return time.time_ns() // 1_000_000
