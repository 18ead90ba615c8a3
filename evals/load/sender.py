"""Sends records until the broker acknowledges them, through outages and changes of the broker's address.

    send -> waiting -> Publisher -> acknowledged, or waiting again

A load generator that counts lost records must not lose any. A record whose acknowledgement is lost may be in its topic
twice.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import count

from wire.bus import Bus, Publisher
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import Event, Feedback

DELIVERY_TIMEOUT_MS = 120_000
"""The time for which the Kafka client retries. It is long, because sending a record again here may duplicate it."""

PAUSE_S = 0.2
"""The pause before an unreachable broker is tried again, and between two checks of its address."""


def nothing() -> None:
    """The callback for a record on which nobody waits."""


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record that is not acknowledged yet. `acknowledged` is called once it is."""

    number: int
    record: Event | Feedback
    acknowledged: Callable[[], None]


class Sender:
    """A publisher that reconnects and sends again. It runs in a thread of its own; any thread may send.

    `config` returns the current settings of the broker.
    """

    def __init__(self, config: Callable[[], BusConfig], *, client_id: str) -> None:
        self._config = config
        self._client_id = client_id
        self._changed = threading.Condition()
        self._numbers = count()
        self._waiting: deque[PendingRecord] = deque()
        self._open: dict[int, PendingRecord] = {}
        self._closed = False
        self.connected = threading.Event()
        """Is set after the first connection. Waiting for it keeps the connection out of the first record's latency."""

    def send(self, record: Event | Feedback, acknowledged: Callable[[], None] = nothing) -> None:
        """Queues a record. `acknowledged` is called once, when the broker has acknowledged the record."""
        with self._changed:
            self._waiting.append(PendingRecord(next(self._numbers), record, acknowledged))
            self._changed.notify()

    @property
    def num_open(self) -> int:
        """The number of records that the broker has not acknowledged."""
        with self._changed:
            return len(self._waiting) + len(self._open)

    def run(self) -> None:
        """Sends until it is closed.

        consumes: records; produces: the same, in their topics; waits for: a record, the broker
        unblocked by: `send`, `close`, an address that has changed
        """
        while not self._closed:
            config = self._config()
            bus = Bus(config.with_client(delivery_timeout_ms=DELIVERY_TIMEOUT_MS), self._client_id)
            try:
                publisher = bus.publisher()
                self.connected.set()
                self._serve(publisher, config)
            except WireError:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, PAUSE_S)
            finally:
                self._requeue()
                _abandon(bus)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self, publisher: Publisher, config: BusConfig) -> None:
        """Sends while the address of the broker stays the same."""
        while not self._closed and self._config() == config:
            with self._changed:
                if not self._waiting:
                    self._changed.wait(PAUSE_S)
                    continue
                pending = self._waiting.popleft()
                self._open[pending.number] = pending
            publisher.send(pending.record, partial(self._on_acknowledged, pending.number))

    def _on_acknowledged(self, number: int, error: Exception | None) -> None:
        with self._changed:
            pending = self._open.pop(number, None)
            # The record was requeued meanwhile, and this is the acknowledgement of an earlier copy.
            if pending is None:
                return
            if error is not None:
                self._waiting.append(pending)
                return
        pending.acknowledged()

    def _requeue(self) -> None:
        """Moves the records that are not acknowledged back to the front of the queue."""
        with self._changed:
            self._waiting.extendleft(reversed(self._open.values()))
            self._open.clear()


def _abandon(bus: Bus) -> None:
    """Closes a bus in a daemon thread, because closing may hang if the broker is gone."""

    def close() -> None:
        with suppress(WireError):
            bus.close()

    threading.Thread(target=close, name="load-abandoned", daemon=True).start()
