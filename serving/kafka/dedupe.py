"""Deduplication: an event that Kafka delivers again is not answered again.

    admit(event, finish) -> NEW       the caller answers the event, then calls `acknowledge` or `drop`
                         -> OPEN      its answer is on the way: `acknowledge` will finish this delivery, too
                         -> ANSWERED  its answer is acknowledged: the caller finishes this delivery at once
                         -> CONFLICT  another event has the same id: the caller refuses it (`conflicting_id`)

Finishing a delivery allows its offset to be committed, so a delivery is finished only when the answer is acknowledged.
An event that will not be answered is dropped: its next delivery is NEW again.

An event is identified by (source, id). Its content is its text, features and parts, its key and its tasks. If two
events have the same identity and different contents, this is a mistake of their producer. If the second one were
answered, a label could not tell the two answers apart. If it were finished without an answer, it would be lost
silently. Times are not part of the content, because the broker gives each message its own time.

Identities and contents are remembered as digests, so the window is bounded in bytes, however long the ids are.

Rejected: a Bloom filter (a false positive would silently lose an answer), a window by time, and cachetools' FIFOCache
(it takes 1 us more for each event, and 1.5 times the memory).
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import TypeAlias

from wire.bus import Received, Refused
from wire.dead_letters import refuse_event
from wire.events import EventKey, content, encoded_key, key_of
from wire.message import quote_text
from wire.records import Event

DIGEST_BYTES = 16

Finish: TypeAlias = Callable[[], None]
"""Finishes one delivery, so that its offset may be committed."""


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
        # Digests of identity -> content, the oldest first.
        self._answered: OrderedDict[bytes, bytes] = OrderedDict()

    @property
    def num_open(self) -> int:
        """The number of events whose answer is not acknowledged yet."""
        return len(self._open)

    def admit(self, event: Event, finish: Finish) -> Admission:
        """Admits a delivery. If it is NEW or OPEN, `acknowledge` will call `finish`. Otherwise the caller must finish
        it."""
        identity = _identity_digest(key_of(event))
        content = _content_digest(event)
        with self._lock:
            open_event = self._open.get(identity)
            known_content = open_event.content if open_event else self._answered.get(identity, content)
            if known_content != content:
                return Admission.CONFLICT
            if identity in self._answered:
                return Admission.ANSWERED
            admission = Admission.OPEN if open_event else Admission.NEW
            self._open.setdefault(identity, _Open(content)).finishes.append(finish)
            return admission

    def acknowledge(self, key: EventKey) -> None:
        """Finishes every delivery of an event whose answer is acknowledged, and remembers the event."""
        identity = _identity_digest(key)
        with self._lock:
            open_event = self._open.pop(identity, None)
            if open_event is None:
                return
            self._answered[identity] = open_event.content
            if len(self._answered) > self._size:
                self._answered.popitem(last=False)
            self._lock.notify_all()
        for finish in open_event.finishes:
            finish()

    def drop(self, key: EventKey) -> None:
        """Forgets an event that gets no answer. Its deliveries stay unfinished, and its next delivery is NEW."""
        with self._lock:
            self._open.pop(_identity_digest(key), None)
            self._lock.notify_all()

    def wait_until_none_open(self, timeout_s: float) -> bool:
        """Waits until no event is open. Returns False after `timeout_s` seconds."""
        with self._lock:
            return self._lock.wait_for(lambda: not self._open, timeout_s)


def conflicting_id(received: Received[Event]) -> Refused:
    """Returns the refusal of an event whose id belongs to another event of its source."""
    event = received.record
    detail = (
        f"event {quote_text(event.id)} came before with another text, features, parts, key or tasks; "
        "an id is unique within its source"
    )
    letter = refuse_event("conflicting_id", detail, event, received.position.place)
    return Refused(dead_letter=letter, position=received.position)


def _identity_digest(key: EventKey) -> bytes:
    return blake2b(encoded_key(key), digest_size=DIGEST_BYTES).digest()


def _content_digest(event: Event) -> bytes:
    """Returns the digest of an event's content, key and tasks.

    The same text with another key is another event, because another arm may answer it.
    """
    digest = blake2b(content(event).encode(), digest_size=DIGEST_BYTES)
    for part in (event.key, *event.tasks):
        # 0xff separates the parts: it never occurs in UTF-8.
        digest.update(b"\xff" + part.encode())
    return digest.digest()
