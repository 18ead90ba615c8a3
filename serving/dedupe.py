"""Which events are being answered, and which were: a delivery that comes again is not answered again.

    admit(event, finish) -> NEW: answer it, then settle or drop        counted, and finished by whoever answers it:
                         -> OPEN: its answer is on the way             OPEN, with the first; ANSWERED, at once

A delivery may be finished only when an answer is acknowledged, so one that repeats an open event waits for that very
answer. An answer that the broker did not take is dropped: the next delivery is NEW again.

Rejected: a Bloom filter (a false positive would silently lose an answer), and a window by time.
"""

import threading
from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from wire.records import Event

Key: TypeAlias = tuple[str, str]
Finish: TypeAlias = Callable[[], None]
"""Says that the effect of one delivery is there."""


class Admission(Enum):
    NEW = "new"
    OPEN = "open"
    ANSWERED = "answered"


class DedupeWindow:
    """Remembers the last `size` answered events, and every open one. Any thread may call."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Condition()
        self._open: dict[Key, list[Finish]] = {}
        self._answered: dict[Key, None] = {}

    @property
    def num_open(self) -> int:
        """Events whose answer is not acknowledged yet."""
        return len(self._open)

    def admit(self, event: Event, finish: Finish) -> Admission:
        """Takes in a delivery. `finish` is called by `settle`; for ANSWERED it is left to the caller."""
        key = key_of(event)
        with self._lock:
            if key in self._answered:
                return Admission.ANSWERED
            admission = Admission.OPEN if key in self._open else Admission.NEW
            self._open.setdefault(key, []).append(finish)
            return admission

    def settle(self, event: Event) -> None:
        """The answer is acknowledged: finishes every delivery of the event, and remembers it."""
        key = key_of(event)
        with self._lock:
            waiting = self._open.pop(key, [])
            self._answered[key] = None
            if len(self._answered) > self._size:
                del self._answered[next(iter(self._answered))]
            self._lock.notify_all()
        for finish in waiting:
            finish()

    def drop(self, event: Event) -> None:
        """There is no answer: nothing is finished, and the next delivery is NEW."""
        with self._lock:
            self._open.pop(key_of(event), None)
            self._lock.notify_all()

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Whether no event is open any more, within `timeout_s` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, timeout_s)


def key_of(event: Event) -> Key:
    """An id is unique within its source."""
    return event.source, event.id
