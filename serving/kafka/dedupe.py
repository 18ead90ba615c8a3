"""Which events are being answered, and which were: a delivery that comes again is not answered again.

    admit(event, finish) -> NEW: answer it, then settle or drop        counted, and finished by whoever answers it:
                         -> OPEN: its answer is on the way             OPEN, with the first; ANSWERED, at once
                         -> CONFLICT: the id of another event          refused by the caller

A delivery may be finished only when an answer is acknowledged, so one that repeats an open event waits for that very
answer. An answer that is not made after all is dropped: the next delivery is NEW again.

An event is (source, id), and its content is its text and its key. Another content under the same name is no repetition
but a mistake of its sender: to answer it would make two answers that a label cannot tell apart, to finish it would lose
it without a word. Times are no content, since a broker gives another one to each delivery.

Names and contents are remembered as digests, so the window is bounded in bytes whatever clients call their events.

Rejected: a Bloom filter (a false positive would silently lose an answer), and a window by time.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import TypeAlias

from wire.events import EventKey, key_of, text_of
from wire.records import Event

DIGEST_BYTES = 16

Finish: TypeAlias = Callable[[], None]
"""Says that the effect of one delivery is there."""


class Admission(Enum):
    NEW = "new"
    OPEN = "open"
    ANSWERED = "answered"
    CONFLICT = "conflict"


@dataclass(slots=True)
class _Open:
    content: bytes
    finishes: list[Finish] = field(default_factory=list)


class DedupeWindow:
    """Remembers the last `size` answered events, and every open one. Any thread may call."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Condition()
        self._open: dict[bytes, _Open] = {}
        self._answered: OrderedDict[bytes, bytes] = OrderedDict()  # name -> content, the oldest first

    @property
    def num_open(self) -> int:
        """Events whose answer is not acknowledged yet."""
        return len(self._open)

    def admit(self, event: Event, finish: Finish) -> Admission:
        """Takes in a delivery. `finish` is called by `settle`; for ANSWERED and CONFLICT it is left to the caller."""
        name = _name_of(key_of(event))
        content = _content_of(event)
        with self._lock:
            opened = self._open.get(name)
            known = opened.content if opened else self._answered.get(name, content)
            if known != content:
                return Admission.CONFLICT
            if name in self._answered:
                return Admission.ANSWERED
            admission = Admission.OPEN if opened else Admission.NEW
            self._open.setdefault(name, _Open(content)).finishes.append(finish)
            return admission

    def settle(self, key: EventKey) -> None:
        """The answer is acknowledged: finishes every delivery of the event, and remembers it."""
        name = _name_of(key)
        with self._lock:
            opened = self._open.pop(name, None)
            if opened is None:
                return
            self._answered[name] = opened.content
            if len(self._answered) > self._size:
                self._answered.popitem(last=False)
            self._lock.notify_all()
        for finish in opened.finishes:
            finish()

    def drop(self, key: EventKey) -> None:
        """There is no answer: nothing is finished, and the next delivery is NEW."""
        with self._lock:
            self._open.pop(_name_of(key), None)
            self._lock.notify_all()

    def wait_until_settled(self, timeout_s: float) -> bool:
        """Whether no event is open any more, within `timeout_s` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, timeout_s)


def _name_of(key: EventKey) -> bytes:
    return blake2b(text_of(key), digest_size=DIGEST_BYTES).digest()


def _content_of(event: Event) -> bytes:
    """An event without a key is another one than the same text with a key: it meets another arm."""
    digest = blake2b(event.text.encode(), digest_size=DIGEST_BYTES)
    digest.update(b"\xff" + event.key.encode())  # 0xff is in no UTF-8
    return digest.digest()
