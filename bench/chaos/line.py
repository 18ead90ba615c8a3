"""Sends records until the broker has them, whatever happens to the broker, its address included.

    send -> waiting -> Publisher -> acknowledged, or waiting again

Whoever measures losses must lose nothing itself. A record whose acknowledgement is lost may lie in its topic twice.
"""

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

from wire.bus import Bus, Publisher
from wire.config import BusConfig
from wire.errors import WireError
from wire.records import Event, Feedback

PATIENCE_MS = 120_000
"""A send is repeated by the client itself for so long: a copy that we send again could be a second one."""

PAUSE_S = 0.2
"""Before a broker that is away is tried again, and between two looks at whether its address has changed."""


@dataclass(frozen=True, slots=True)
class LineRecord:
    """A record on its way."""

    number: int
    record: Event | Feedback
    acknowledged: Callable[[], None]


class Line:
    """A publisher that comes back. Any thread may send; it runs in one of its own."""

    def __init__(self, where: Callable[[], BusConfig], *, client_id: str) -> None:
        self._where = where
        self._client_id = client_id
        self._changed = threading.Condition()
        self._numbers = count()
        self._waiting: deque[LineRecord] = deque()
        self._open: dict[int, LineRecord] = {}
        self._closed = False

    def send(self, record: Event | Feedback, acknowledged: Callable[[], None]) -> None:
        """Takes the record; `acknowledged` is called once, when the broker has it."""
        with self._changed:
            self._waiting.append(LineRecord(next(self._numbers), record, acknowledged))
            self._changed.notify()

    @property
    def num_open(self) -> int:
        """Records that the broker has not acknowledged."""
        with self._changed:
            return len(self._waiting) + len(self._open)

    def run(self) -> None:
        """Sends until it is closed.

        consumes: records; produces: the same, in their topics; waits for: a record, the broker
        unblocked by: `send`, `close`, an address that has changed
        """
        while not self._closed:
            config = self._where()
            bus = Bus(replace(config, delivery_timeout_ms=PATIENCE_MS), self._client_id)
            try:
                publisher = bus.publisher()
                self._serve(publisher, config)
            except WireError:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, PAUSE_S)
            finally:
                self._recall()
                _abandon(bus)

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _serve(self, publisher: Publisher, config: BusConfig) -> None:
        """Sends while the broker is where it was."""
        while not self._closed and self._where() == config:
            with self._changed:
                if not self._waiting:
                    self._changed.wait(PAUSE_S)
                    continue
                sending = self._waiting.popleft()
                self._open[sending.number] = sending
            publisher.send(sending.record, partial(self._settled, sending.number))

    def _settled(self, number: int, error: Exception | None) -> None:
        with self._changed:
            sending = self._open.pop(number, None)
            if sending is None:  # it was sent again meanwhile
                return
            if error is not None:
                self._waiting.append(sending)
                return
        sending.acknowledged()

    def _recall(self) -> None:
        """What is not acknowledged is sent again."""
        with self._changed:
            self._waiting.extendleft(reversed(self._open.values()))
            self._open.clear()


def _abandon(bus: Bus) -> None:
    """Closes a bus whose broker may be gone for good: nobody waits for it."""

    def close() -> None:
        with suppress(WireError):
            bus.close()

    threading.Thread(target=close, name="chaos-abandoned", daemon=True).start()
