"""Counters by name, which every thread of a replica adds to."""

import threading
from collections import Counter
from collections.abc import Mapping

SEPARATOR = "/"
"""What is between the name of a task and that of a count of its own; no task has it in its name."""


def count_of(task: str, name: str) -> str:
    """Returns the name of a count of one task; that of the default task has no prefix.

    >>> count_of("", "answers_int8"), count_of("urgency", "answers_int8")
    ('answers_int8', 'urgency/answers_int8')
    """
    return f"{task}{SEPARATOR}{name}" if task else name


def counts_of(task: str, counts: Mapping[str, int]) -> dict[str, int]:
    """Returns the counts of one task, by their names without it; those of the replica are the default task's.

    >>> counts_of("urgency", {"batches": 2, "urgency/answers_int8": 3, "queue/answers_int8": 5})
    {'answers_int8': 3}
    """
    found = {name.rpartition(SEPARATOR): num for name, num in counts.items()}
    return {name: num for (prefix, _, name), num in found.items() if prefix == task}


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
