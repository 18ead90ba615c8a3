"""The clock of the records."""

import time


def now_ms() -> int:
    """Unix time in milliseconds: what every process of one machine agrees on. For spans, use `time.monotonic`."""
    return time.time_ns() // 1_000_000
