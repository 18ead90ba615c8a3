"""Sends records until the broker has acknowledged them, whatever happens to the broker, its address included.

    send -> waiting -> Publisher -> acknowledged, or waiting again

A load that counts what is lost must lose nothing itself. A record whose acknowledgement is lost may be in its topic
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

PATIENCE_MS = 120_000
"""How long the Kafka client retries by itself. It is long, since a copy that is sent again here may be a duplicate."""

PAUSE_S = 0.2
"""The pause before a broker that is away is tried again, and between two checks of its address."""


def nothing() -> None:
    """What is done for a record that nobody waits for."""


@dataclass(frozen=True, slots=True)
class PendingRecord:
    """A record that is not acknowledged yet."""

    number: int
    record: Event | Feedback
    acknowledged: Callable[[], None]


class Sender:
    """A publisher that reconnects and sends again. Any thread may send; it runs in a thread of its own."""

    def __init__(self, config: Callable[[], BusConfig], *, client_id: str) -> None:
        self._config = config
        self._client_id = client_id
        self._changed = threading.Condition()
        self._numbers = count()
        self._waiting: deque[PendingRecord] = deque()
        self._open: dict[int, PendingRecord] = {}
        self._closed = False
        self.connected = threading.Event()
        """Set once there was a connection, so that the first record need not wait for one."""

    def send(self, record: Event | Feedback, acknowledged: Callable[[], None] = nothing) -> None:
        """Accepts a record. `acknowledged` is called once, when the broker has it."""
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
            bus = Bus(config.with_client(delivery_timeout_ms=PATIENCE_MS), self._client_id)
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
                sending = self._waiting.popleft()
                self._open[sending.number] = sending
            publisher.send(sending.record, partial(self._on_acknowledged, sending.number))

    def _on_acknowledged(self, number: int, error: Exception | None) -> None:
        with self._changed:
            sending = self._open.pop(number, None)
            if sending is None:  # it was sent again meanwhile
                return
            if error is not None:
                self._waiting.append(sending)
                return
        sending.acknowledged()

    def _requeue(self) -> None:
        """Moves what is not acknowledged back to the front of the queue."""
        with self._changed:
            self._waiting.extendleft(reversed(self._open.values()))
            self._open.clear()


def _abandon(bus: Bus) -> None:
    """Closes a bus in a thread that nobody waits for, since its broker may be gone for good."""

    def close() -> None:
        with suppress(WireError):
            bus.close()

    threading.Thread(target=close, name="load-abandoned", daemon=True).start()
