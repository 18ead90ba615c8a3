"""Admits each event once: an event that Kafka delivers again is not answered again.

    admit(event, finish) -> NEW       the caller answers the event, and calls `acknowledge` or `drop` then
                         -> OPEN      its answer is on the way, and finishes this delivery, too
                         -> ANSWERED  its answer is acknowledged: the caller finishes this delivery at once
                         -> CONFLICT  another event has its id: the caller refuses it (`conflicting_id`)

To finish a delivery allows its offset to be committed, so it is finished only when the answer is acknowledged. An event
whose answer is never made is dropped: its next delivery is NEW again.

An event is identified by (source, id), and its content is what it says, its key and its tasks. Another one under the
same name is not a repetition but a mistake of its sender: to answer it would make two answers that a label cannot tell
apart, and to finish it would lose it silently. Times are not part of the content, since a broker gives another one to
each delivery.

Names and contents are remembered as digests, so the window is bounded in bytes, however long the ids are.

Rejected: a Bloom filter (a false positive would silently lose an answer), a window by time, and the FIFOCache of
cachetools (it takes 1 us more for each event, and half as much memory again).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import TypeAlias

from wire.bus import Received, Refused
from wire.events import EventKey, content, encoded_key, key_of
from wire.letters import refuse_event
from wire.message import shown
from wire.records import Event

DIGEST_BYTES = 16

Finish: TypeAlias = Callable[[], None]
"""Finishes one delivery: its effect is there."""


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
    """Remembers the last `size` answered events, and every open one. Any thread may call it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._lock = threading.Condition()
        self._open: dict[bytes, _Open] = {}
        self._answered: OrderedDict[bytes, bytes] = OrderedDict()  # name -> content, oldest first

    @property
    def num_open(self) -> int:
        """The number of events whose answer is not acknowledged yet."""
        return len(self._open)

    def admit(self, event: Event, finish: Finish) -> Admission:
        """Admits a delivery. `acknowledge` calls `finish`; for ANSWERED and CONFLICT that is left to the caller."""
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

    def acknowledge(self, key: EventKey) -> None:
        """Finishes every delivery of the event, whose answer is acknowledged, and remembers the event."""
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
        """Forgets the event, which gets no answer: nothing is finished, and its next delivery is NEW."""
        with self._lock:
            self._open.pop(_name_of(key), None)
            self._lock.notify_all()

    def wait_until_none_open(self, timeout_s: float) -> bool:
        """Waits until no event is open; returns False where `timeout_s` seconds were over first."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, timeout_s)


def conflicting_id(received: Received[Event]) -> Refused:
    """Returns the refusal of an event whose id another event of its source has."""
    event = received.record
    detail = (
        f"event {shown(event.id)} came before with another text, features, parts, key or tasks; "
        "an id is unique within its source"
    )
    letter = refuse_event("conflicting_id", detail, event, received.position.place)
    return Refused(dead_letter=letter, position=received.position)


def _name_of(key: EventKey) -> bytes:
    return blake2b(encoded_key(key), digest_size=DIGEST_BYTES).digest()


def _content_of(event: Event) -> bytes:
    """Digests what is said, to whom, and the key: the same text with another key is another event, as another arm may
    answer."""
    digest = blake2b(content(event).encode(), digest_size=DIGEST_BYTES)
    for part in (event.key, *event.tasks):
        digest.update(b"\xff" + part.encode())  # 0xff is in no UTF-8
    return digest.digest()
