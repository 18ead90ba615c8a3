"""What a replica sends to Kafka, in a thread of its own: a broker that is slow or away holds up no answer by HTTP.

    engine, intake --send--> [waiting] --Publisher.send--> broker --on_ack--> whoever must know

A record that somebody waits for (it has an `on_ack`) goes at once. An answer by HTTP waits up to PATIENCE_S for
company: each sending costs the client's threads about a millisecond of the interpreter, which the next request pays.

Bounded by who fills it: the intake pauses its partitions, and HTTP leaves its answers out (and counts them), while
`is_full`. A record that the broker cannot take now is tried again until it can; one that it refuses is reported.

Rejected: sending from the model's thread (the client takes 40 us of it for each record, and may block for seconds).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import structlog

from serving.counts import Counts
from serving.errors import Unhealthy
from wire.bus import Publisher
from wire.errors import BusUnavailable, SendFailed, WireError
from wire.records import Answer, DeadLetter

OnAck: TypeAlias = Callable[[Exception | None], None]
Sendable: TypeAlias = Answer | DeadLetter

PATIENCE_S = 0.05
GIVE_UP_S = 1.0  # for a client that waits for a broker that is away; it ends with the process then

log = structlog.get_logger("outbox")


class Outbox:
    """Sends in order. `send` never waits; `on_ack` is called once, with None when the broker has the record."""

    def __init__(
        self, open_publisher: Callable[[], Publisher], counts: Counts, *, max_items: int, reconnect_s: float
    ) -> None:
        self._open_publisher = open_publisher
        self._counts = counts
        self._max_items = max_items
        self._reconnect_s = reconnect_s
        self._changed = threading.Condition()
        self._waiting: deque[tuple[Sendable, OnAck | None]] = deque()
        self._due_s = math.inf  # when what waits goes, on the monotonic clock
        self._is_closed = False
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._max_items

    def send(self, record: Sendable, on_ack: OnAck | None = None) -> None:
        due_s = time.monotonic() + (PATIENCE_S if on_ack is None else 0.0)
        with self._changed:
            self._waiting.append((record, on_ack))
            if due_s < self._due_s:
                self._due_s = due_s
                self._changed.notify()

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        if not self._thread.is_alive():
            raise Unhealthy("the outbox has ended")

    def close(self, timeout_s: float) -> None:
        """Sends what waits, for at most `timeout_s` seconds, and waits for the acknowledgements."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if not self._thread.is_alive():
            return
        self._thread.join(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._changed.notify_all()
        self._thread.join(GIVE_UP_S)

    def _run(self) -> None:
        """Sends until closed and empty.

        consumes: what was given to `send`
        produces: Answer and DeadLetter, to the broker
        waits for: a record, or the end of its patience; while the broker is away, `reconnect_s`
        unblocked by: send, close
        """
        publisher = self._connected()
        while publisher is not None and (sending := self._next()) is not None:
            self._send(publisher, *sending)
        if publisher is not None:
            try:
                publisher.close()
            except WireError as error:
                log.warning("not_flushed", error=str(error))

    def _connected(self) -> Publisher | None:
        while not self._is_abandoned:
            try:
                return self._open_publisher()
            except WireError as error:
                self._pause(error)
        return None

    def _send(self, publisher: Publisher, record: Sendable, on_ack: OnAck | None) -> None:
        while not self._is_abandoned:
            try:
                publisher.send(record, self._acknowledged(record, on_ack))
            except BusUnavailable as error:
                self._pause(error)
            except SendFailed as error:
                self._acknowledged(record, on_ack)(error)
                return
            else:
                return

    def _acknowledged(self, record: Sendable, on_ack: OnAck | None) -> OnAck:
        def acknowledged(error: Exception | None) -> None:
            if error is not None:
                self._counts.add("send_failed")
                log.error("send_failed", record=type(record).__name__, id=record.message_id, error=str(error))
            elif isinstance(record, DeadLetter):
                self._counts.add("dead_letters")
            if on_ack is not None:
                on_ack(error)

        return acknowledged

    def _next(self) -> tuple[Sendable, OnAck | None] | None:
        with self._changed:
            while not self._is_closed and (left_s := self._due_s - time.monotonic()) > 0:
                self._changed.wait(None if left_s == math.inf else left_s)
            if not self._waiting or self._is_abandoned:
                return None
            sending = self._waiting.popleft()
            if not self._waiting:
                self._due_s = math.inf
            return sending

    def _pause(self, error: WireError) -> None:
        self._counts.add("bus_unavailable")
        log.warning("bus_unavailable", error=str(error))
        with self._changed:
            self._changed.wait_for(lambda: self._is_abandoned, self._reconnect_s)
