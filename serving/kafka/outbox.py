"""Sends a replica's records to Kafka in its own thread, so that a slow broker or an outage delays no HTTP answer.

    intake --send--> [SendQueue] --Publisher.send--> broker --acknowledged--> on_ack
    HTTP --publish--> [Spool] ------^                   '--failed--> again, or its dead letter instead
    HTTP --send, a label--> [SendQueue]

    put --> [waiting] --next--> in flight --succeeded--> gone           SendQueue: no threads, no clock
               ^                   |
      [retries, delayed] <--failed-'

A record stays here until the broker has it. If it can never be sent, it is replaced by a small dead letter with the
reason `unsendable`. A record can never be sent if it is too large, if it cannot be encoded, or if the broker refuses it
again and again while it accepts others.

**Sources.** Events from Kafka are still in Kafka: the intake waits for `on_ack`, and pauses its partitions while
`is_full`. An HTTP answer exists only here. So it is written to the spool before it is returned to the client, and sent
from there in order. If a replica is killed, another replica sends its answers. If there is no spool folder, or its disk
is full, HTTP answers wait in memory, and `publish` refuses them during an outage of the broker.

**Linger.** A record for which somebody waits is sent at once. An HTTP answer waits up to LINGER_S for others, because
each send takes about a millisecond of the interpreter, which would delay the next request.

**Order and retries.** Records are sent in the order in which they were put.

- If the broker acknowledges nothing for STALL_S, no more records are handed over to the Kafka client. So only few
  records are in flight when the broker turns out to be unreachable. After a back-off they are sent again, in order,
  before newer records. An outage does not count as an attempt.
- If a record fails while the broker accepts others, later records overtake it, and it is sent again after its own
  back-off. After MAX_ATTEMPTS it counts as a record that can never be sent.
- If a record fails immediately when it is handed over, the waiting records are tried first. They show whether the
  broker is unreachable, or refuses only this record.
"""

import heapq
import math
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import msgspec
import structlog

from serving.errors import Unhealthy
from serving.kafka.spool import AnswerSpool, KeepResult, Mark, Spool
from serving.observers import Counts
from wire.backoff import Backoff
from wire.bus import Publisher
from wire.dead_letters import unsendable
from wire.errors import SendFailed, WireError
from wire.message import Place, quote_text
from wire.records import Answer, DeadLetter, Feedback
from wire.threads import BackgroundThread

Sendable: TypeAlias = Answer | DeadLetter | Feedback

STALL_S = 1.0
"""If the broker acknowledges nothing for this many seconds while records are in flight, it seems unreachable."""

MAX_ATTEMPTS = 100
"""Failed attempts, while the broker accepts other records, after which a record counts as unsendable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxBounds:
    """The bounds of an outbox: on unacknowledged records in memory, and on the attempts for a record; and its
    back-off."""

    max_items: int
    max_bytes: int
    backoff: Backoff
    max_attempts: int = MAX_ATTEMPTS


@dataclass(slots=True, eq=False)
class Sending:
    """A record on its way to the broker.

    - `on_ack`: called when the broker has the record, or the dead letter that replaces it
    - `place`: the place in Kafka of the message for which the record is the result
    - `num_immediate`: how often it has failed immediately in the current outage

    `SendQueue` sets the fields with defaults.
    """

    record: Sendable
    on_ack: Callable[[], None]
    place: Place
    number: int = 0
    num_bytes: int = 0
    attempts: int = 0
    num_immediate: int = 0
    handed_over_s: float = 0.0

    @property
    def priority(self) -> tuple[int, int]:
        """The order among retries: fewer immediate failures first, then older records first."""
        return self.num_immediate, self.number


class SendQueue:
    """The queue of records to send. It is not thread-safe: its owner must hold a lock."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._num_put = 0
        self._waiting: deque[Sending] = deque()
        # A heap by priority.
        self._retries: list[tuple[tuple[int, int], Sending]] = []
        # A heap by due time.
        self._delayed: list[tuple[float, int, Sending]] = []
        self._num_in_flight = 0
        # The time at which the broker last acknowledged a record.
        self._acknowledged_s = -math.inf
        # The time at which a record was last handed over while no other was in flight.
        self._idle_s = -math.inf
        self._paused_until_s = -math.inf
        # Consecutive failures.
        self._num_failures = 0
        self.num_items = 0
        """Records that the broker has not acknowledged."""
        self.num_bytes = 0
        """Memory of these records."""

    @property
    def has_waiting(self) -> bool:
        """Whether a record waits to be handed over, now or later."""
        return bool(self._waiting or self._retries or self._delayed)

    def holds(self, num_items: int, num_bytes: int) -> bool:
        """Whether the queue holds at least `num_items` records, or at least `num_bytes` bytes."""
        return self.num_items >= num_items or self.num_bytes >= num_bytes

    def put(self, sending: Sending) -> None:
        """Adds a record behind all others."""
        self._num_put += 1
        sending.number = self._num_put
        sending.num_bytes = resident_bytes(sending.record)
        self._waiting.append(sending)
        self.num_items += 1
        self.num_bytes += sending.num_bytes

    def next(self, now_s: float) -> Sending | None:
        """Returns the next record; None if no record may be handed over now. The record then counts as in flight."""
        while self._delayed and self._delayed[0][0] <= now_s:
            self._retry(heapq.heappop(self._delayed)[2])
        if self.wait_s(now_s) > 0:
            return None
        # A retry that failed immediately goes behind the waiting records.
        if self._retries and not (self._retries[0][1].num_immediate and self._waiting):
            sending = heapq.heappop(self._retries)[1]
        else:
            sending = self._waiting.popleft()
        if not self._num_in_flight:
            self._idle_s = now_s
        self._num_in_flight += 1
        sending.handed_over_s = now_s
        return sending

    def wait_s(self, now_s: float) -> float:
        """Returns the seconds until `next` must be called; infinite if it need not be called before something else
        happens."""
        if self._is_stalled(now_s):
            return math.inf
        if self._waiting or self._retries:
            return max(0.0, self._paused_until_s - now_s)
        if self._delayed:
            return max(0.0, self._paused_until_s - now_s, self._delayed[0][0] - now_s)
        return math.inf

    def is_away(self, now_s: float) -> bool:
        """Whether the broker seems to be unreachable."""
        return self._num_failures > 0 or self._is_stalled(now_s)

    def succeeded(self, sending: Sending, now_s: float) -> int:
        """Removes a record that the broker has acknowledged. Returns the number of consecutive failures before it."""
        num_failures = self._num_failures
        if num_failures:
            self._end_outage()
        self._acknowledged_s = now_s
        self._num_in_flight -= 1
        self.num_items -= 1
        self.num_bytes -= sending.num_bytes
        return num_failures

    def failed(self, sending: Sending, now_s: float, *, is_immediate: bool = False) -> None:
        """Schedules a record to be sent again."""
        self._num_in_flight -= 1
        # The broker accepts other records, so only this record is delayed.
        if self._acknowledged_s > min(sending.handed_over_s, now_s - STALL_S):
            sending.attempts += 1
            due_s = now_s + self._backoff.pause_s(sending.attempts)
            heapq.heappush(self._delayed, (due_s, sending.number, sending))
            return
        # The broker accepts nothing: an outage, in which the order of the records is kept.
        sending.num_immediate += is_immediate
        self._retry(sending)
        # Records that fail together count as one failure.
        if now_s >= self._paused_until_s:
            self._num_failures += 1
            self._paused_until_s = now_s + self._backoff.pause_s(self._num_failures)

    def replace(self, sending: Sending, letter: DeadLetter) -> None:
        """Replaces a record that can never be sent by `letter`."""
        self._num_in_flight -= 1
        self.num_bytes += resident_bytes(letter) - sending.num_bytes
        sending.record = letter
        sending.num_bytes = resident_bytes(letter)
        sending.attempts = 0
        self._retry(sending)

    def _retry(self, sending: Sending) -> None:
        heapq.heappush(self._retries, (sending.priority, sending))

    def _end_outage(self) -> None:
        self._num_failures = 0
        retries = [sending for _, sending in self._retries]
        self._retries.clear()
        for sending in retries:
            sending.num_immediate = 0
            self._retry(sending)

    def _is_stalled(self, now_s: float) -> bool:
        return self._num_in_flight > 0 and now_s - max(self._acknowledged_s, self._idle_s) > STALL_S


class Linger:
    """The time until which waiting records linger, so that they are sent together with later ones.

    It uses the monotonic clock. It is not thread-safe: its owner must hold a lock.

    >>> linger = Linger()
    >>> linger.shorten(0.05, now_s=1.0), linger.shorten(0.05, now_s=1.01), linger.shorten(0.0, now_s=1.02)
    (True, False, True)
    >>> linger.is_over(1.01), linger.is_over(1.02)
    (False, True)
    """

    def __init__(self) -> None:
        self._end_s = math.inf

    def is_over(self, now_s: float) -> bool:
        return now_s >= self._end_s

    def rest_s(self, now_s: float) -> float:
        """Returns the seconds until the lingering is over; infinite while no record waits."""
        return self._end_s - now_s

    def shorten(self, linger_s: float, *, now_s: float) -> bool:
        """Makes the lingering end within `linger_s` seconds. Returns whether the sender must be woken, because it would
        sleep longer."""
        will_wake = now_s < self._end_s <= now_s + linger_s
        if will_wake:
            return False
        self._end_s = min(self._end_s, now_s + linger_s)
        return True

    def end(self, now_s: float) -> None:
        """Makes the lingering end now."""
        self._end_s = min(self._end_s, now_s)

    def restart(self) -> None:
        """Starts again: no record waits any more."""
        self._end_s = math.inf


def replacement_letter(sending: Sending, error: Exception, *, max_attempts: int, source: str) -> DeadLetter | None:
    """Returns the dead letter to send instead of a record that can never be sent; None if the record must be sent
    again.

    If the record is itself a dead letter, it is replaced by a smaller one. If it cannot be made smaller, it is sent
    again.
    """
    is_permanent = isinstance(error, SendFailed) and error.is_permanent
    if not is_permanent and sending.attempts < max_attempts:
        return None
    letter = unsendable(sending.record, SendFailed(str(error)), sending.place, source=source)
    return letter if letter != sending.record else None


def resident_bytes(record: Sendable) -> int:
    """Returns the approximate memory of the record's texts and payload, in bytes."""
    return sum(sys.getsizeof(value) for value in msgspec.structs.astuple(record))


LINGER_S = 0.05
"""Longest time in seconds that an HTTP answer waits for others."""

ABANDON_S = 1.0
"""Longest time in seconds that `close` waits for a Kafka client that hangs in an outage. If it takes longer, the
client's thread ends with the process."""

LOG_INTERVAL_S = 10.0
"""Shortest interval in seconds between two logged failures. All failures are counted."""

MAX_LOGGED_CHARS = 300
NOT_FROM_KAFKA = Place(topic="http", partition=0, offset=0)

log = structlog.get_logger("outbox")


class Outbox:
    """Sends records to Kafka. `send` and `publish` never wait for the broker.

    Dead letters that the outbox makes have the source `name`.
    """

    def __init__(
        self,
        open_publisher: Callable[[], Publisher],
        counts: Counts,
        bounds: OutboxBounds,
        *,
        name: str,
        spool: Spool | None = None,
    ) -> None:
        self._open_publisher = open_publisher
        self.counts = counts
        self._bounds = bounds
        self.name = name
        self._changed = threading.Condition()
        self._queue = SendQueue(bounds.backoff)
        self._spool = AnswerSpool(spool, counts)
        self._linger = Linger()
        # When the next failure may be logged, on the monotonic clock.
        self._next_log_s = -math.inf
        self._is_closed = False
        self._is_abandoned = False
        self._thread = BackgroundThread(self._run, name="outbox")

    def start(self) -> None:
        self._thread.start()

    @property
    def is_full(self) -> bool:
        """Whether the unacknowledged records have reached a bound. The intake pauses then."""
        return self._queue.holds(self._bounds.max_items, self._bounds.max_bytes)

    def send(self, record: Sendable, on_ack: Callable[[], None], place: Place) -> None:
        """Queues the result of the message at `place`.

        `on_ack` is called once, when the broker has the record or the dead letter that replaces it. It is never called
        if the outbox is closed first.
        """
        with self._changed:
            self._queue.put(Sending(record, on_ack, place))
            self._wake_within(0.0)

    def publish(self, answer: Answer) -> bool:
        """Accepts an HTTP answer for publication. Returns False if there is no space to keep it until the broker has
        it."""
        with self._changed:
            is_kept = not self._is_closed and self._keep(answer)
            if is_kept:
                self._wake_within(LINGER_S)
        if not is_kept:
            self.counts.add("answers_not_published")
        return is_kept

    def check(self) -> None:
        """Raises Unhealthy if the thread has ended without `close`."""
        self._thread.check(Unhealthy)

    def close(self, timeout_s: float) -> None:
        """Sends the waiting records for at most `timeout_s` seconds.

        Another replica sends the answers that are still on disk.
        """
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.close(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._spool.close()
            self._changed.notify_all()
        self._thread.close(ABANDON_S)

    def _run(self) -> None:
        """Sends until closed and empty.

        consumes: records of `send` and `publish`, and answers that other replicas have left on disk
        produces: Answer and DeadLetter, to the broker
        waits for: a record, or the end of its lingering; acknowledgements; the back-off after a failure
        unblocked by: send, publish, acknowledgements, close
        """
        publisher = self._connect()
        while publisher is not None and (sending := self._next()) is not None:
            try:
                publisher.send(sending.record, partial(self._on_delivery, sending))
            except WireError as error:
                self._on_delivery(sending, error, is_immediate=True)
        if publisher is not None:
            try:
                publisher.close()
            except WireError as error:
                log.warning("answers_not_flushed", error=_shortened(error))

    def _connect(self) -> Publisher | None:
        num_failures = 0
        while not self._is_abandoned:
            try:
                publisher = self._open_publisher()
                with suppress(WireError):
                    publisher.prepare(Answer)
                return publisher
            except WireError as error:
                num_failures += 1
                self.counts.add("bus_unavailable")
                log.warning("bus_unavailable", error=_shortened(error))
            rest_s = self._bounds.backoff.pause_s(num_failures)
            with self._changed:
                self._changed.wait_for(lambda: self._is_abandoned, rest_s)
        return None

    def _next(self) -> Sending | None:
        with self._changed:
            while not self._is_abandoned:
                now_s = time.monotonic()
                # Answers of dead replicas have waited long enough.
                if self._spool.adopt(now_s):
                    self._linger.end(now_s)
                if self._is_closed or self._linger.is_over(now_s):
                    is_all_queued = self._queue_spooled()
                    if (sending := self._queue.next(now_s)) is not None:
                        return sending
                    if is_all_queued and not self._queue.has_waiting:
                        self._linger.restart()
                if self._is_closed and not self._queue.num_items:
                    return None
                self._changed.wait(self._rest_s(now_s))
        return None

    def _rest_s(self, now_s: float) -> float | None:
        if self._is_closed or self._linger.is_over(now_s):
            rest_s = self._queue.wait_s(now_s)
        else:
            rest_s = self._linger.rest_s(now_s)
        rest_s = min(rest_s, self._spool.next_adopt_s - now_s)
        return None if rest_s == math.inf else rest_s

    def _wake_within(self, linger_s: float) -> None:
        if self._linger.shorten(linger_s, now_s=time.monotonic()):
            self._changed.notify()

    def _keep(self, answer: Answer) -> bool:
        result = self._spool.keep(answer)
        if result is not KeepResult.NO_DISK:
            return result is KeepResult.KEPT
        # Without a disk the answer waits in memory. During an outage it might wait for long, and then be lost in a
        # crash.
        if self.is_full or (self._spool.has_failed and self._queue.is_away(time.monotonic())):
            return False
        self._queue.put(Sending(answer, _ignore_ack, NOT_FROM_KAFKA))
        return True

    def _queue_spooled(self) -> bool:
        """Queues spooled answers, up to half of the bounds, so that space is left for the intake. Returns whether all
        are queued."""
        max_items = self._bounds.max_items
        max_bytes = self._bounds.max_bytes
        while not self._queue.holds((max_items + 1) // 2, max_bytes // 2):
            spooled = self._spool.take()
            if spooled is None:
                return True
            self._queue.put(Sending(spooled.answer, partial(self._finish_spooled, spooled.mark), NOT_FROM_KAFKA))
        return False

    def _finish_spooled(self, mark: Mark) -> None:
        with self._changed:
            self._spool.finish(mark)

    def _on_delivery(self, sending: Sending, error: Exception | None, *, is_immediate: bool = False) -> None:
        """Handles the delivery report of a record. If `error` is None, the broker has the record.

        It runs in the Kafka client's thread or in ours.
        """
        # `close` waits until the queue is empty, so `on_ack` is called before the record leaves the queue.
        if error is None:
            sending.on_ack()
        with self._changed:
            now_s = time.monotonic()
            if error is None:
                self._succeeded(sending, now_s)
            else:
                self._failed(sending, error, now_s, is_immediate=is_immediate)
                self._linger.end(now_s)
            self._changed.notify()

    def _succeeded(self, sending: Sending, now_s: float) -> None:
        if num_failures := self._queue.succeeded(sending, now_s):
            log.info("bus_answers_again", failures=num_failures, waiting=self._queue.num_items)
        if not isinstance(sending.record, Answer):
            self.counts.add("labels" if isinstance(sending.record, Feedback) else "dead_letters")

    def _failed(self, sending: Sending, error: Exception, now_s: float, *, is_immediate: bool) -> None:
        self.counts.add("send_failed")
        letter = replacement_letter(sending, error, max_attempts=self._bounds.max_attempts, source=self.name)
        if letter is not None:
            self.counts.add("unsendable")
            message_id = quote_text(sending.record.message_id)
            log.error("unsendable", id=message_id, tried=sending.attempts, error=_shortened(error))
            self._queue.replace(sending, letter)
            return
        self._queue.failed(sending, now_s, is_immediate=is_immediate)
        if now_s >= self._next_log_s:
            self._next_log_s = now_s + LOG_INTERVAL_S
            log.warning("send_failed", waiting=self._queue.num_items, error=_shortened(error))


def _ignore_ack() -> None: ...


def _shortened(error: Exception) -> str:
    return str(error)[:MAX_LOGGED_CHARS]
