"""Counters by name, which every thread of a replica adds to."""

import threading
from collections import Counter


class Counts:
    """The counters of a replica. Names are stable: reports and the status page show them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()

    def add(self, name: str, num: int = 1) -> None:
        with self._lock:
            self._counts[name] += num

    def snapshot(self) -> dict[str, int]:
        with self._lock:
            return dict(self._counts)
