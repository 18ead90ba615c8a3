"""The records that a replica sends to Kafka, in a thread of its own: a slow broker, or an outage, delays no answer by
HTTP.

    intake --send--> [SendQueue] --Publisher.send--> broker --acknowledged--> on_ack
    HTTP --publish--> [Spool] ------^                   '--failed--> again, or its dead letter instead
    HTTP --send, a label--> [SendQueue]

    put --> [waiting] --next--> in flight --succeeded--> gone           SendQueue: no threads, no clock
               ^                   |
      [retries, delayed] <--failed-'

A record stays here until the broker has it. One that can never be sent (too large, no encoding, or refused again and
again while others are accepted) becomes a small dead letter of the reason `unsendable`, which goes in its place.

What the intake sends is still in Kafka, too: it waits for `on_ack`, and pauses its partitions while `is_full`. An
answer by HTTP is nowhere else, so it is written to disk before it is returned, and sent from there, in order; the
answers that a killed replica has left are sent by the next one. If there is no folder, or the disk is full, they
wait in memory; during an outage of the broker, `publish` refuses them then.

A record that somebody waits for goes at once. An answer by HTTP lingers up to LINGER_S for others: each sending costs
the client's threads about a millisecond of the interpreter, which the next request pays.

Records go in the order in which they were put. While the broker has acknowledged nothing for STALL_S, no more records
are handed over. So few are in flight when it turns out to be unreachable, and after a back-off all of them go again, in
order, before anything newer. If the broker accepts other records meanwhile, a record that fails waits alone, is
overtaken, and goes again after a back-off of its own; after MAX_ATTEMPTS it counts as one that can never be sent. An
outage is no record's fault, and is not an attempt. A record that fails at once, before another was handed over, goes
behind the waiting ones: they show whether the broker is away or refuses this record alone.
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
from wire.errors import SendFailed, WireError
from wire.letters import unsendable
from wire.message import Place, shown
from wire.records import Answer, DeadLetter, Feedback
from wire.threads import BackgroundThread

Sendable: TypeAlias = Answer | DeadLetter | Feedback

STALL_S = 1.0
MAX_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxBounds:
    """The bounds of the unacknowledged records in memory, of the attempts to send one, and the back-off after
    failures."""

    max_items: int
    max_bytes: int
    backoff: Backoff
    max_attempts: int = MAX_ATTEMPTS


@dataclass(slots=True, eq=False)
class Sending:
    """A record on its way to the broker. `on_ack` is called once the broker has it, or the dead letter in its place.

    `place` is that of the message whose result the record is. The other fields belong to the queue.
    """

    record: Sendable
    on_ack: Callable[[], None]
    place: Place
    number: int = 0
    num_bytes: int = 0
    attempts: int = 0
    num_immediate: int = 0  # immediate failures in this outage
    handed_over_s: float = 0.0

    @property
    def priority(self) -> tuple[int, int]:
        """The order among retries: fewer immediate failures first, then older first."""
        return self.num_immediate, self.number


class SendQueue:
    """The records to send. It is not thread-safe: its owner guards it. Verbs: put, next, succeeded, failed, replace."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._num_put = 0
        self._waiting: deque[Sending] = deque()
        self._retries: list[tuple[tuple[int, int], Sending]] = []  # a heap by priority
        self._delayed: list[tuple[float, int, Sending]] = []  # a heap by due time
        self._num_in_flight = 0
        self._acknowledged_s = -math.inf  # when the broker last took a record
        self._idle_s = -math.inf  # when a record was last handed over with none in flight
        self._paused_until_s = -math.inf
        self._num_failures = 0  # in a row
        self.num_items = 0
        """Records that the broker has not acknowledged."""
        self.num_bytes = 0
        """Memory of these records."""

    @property
    def has_waiting(self) -> bool:
        """Whether a record waits to be handed over, now or later."""
        return bool(self._waiting or self._retries or self._delayed)

    def holds(self, num_items: int, num_bytes: int) -> bool:
        """Whether it holds as many items, or as many bytes."""
        return self.num_items >= num_items or self.num_bytes >= num_bytes

    def put(self, sending: Sending) -> None:
        self._num_put += 1
        sending.number = self._num_put
        sending.num_bytes = resident_bytes(sending.record)
        self._waiting.append(sending)
        self.num_items += 1
        self.num_bytes += sending.num_bytes

    def next(self, now_s: float) -> Sending | None:
        """Returns the record to hand over now, which is in flight then; None where there is none, or not yet."""
        while self._delayed and self._delayed[0][0] <= now_s:
            self._retry(heapq.heappop(self._delayed)[2])
        if self.wait_s(now_s) > 0:
            return None
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
        """Returns the seconds until `next` must be called; infinite where another event has to happen first."""
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
        """Notes that the broker has the record. Returns how many failures in a row have ended with it."""
        num_failures = self._num_failures
        if num_failures:
            self._end_outage()
        self._acknowledged_s = now_s
        self._num_in_flight -= 1
        self.num_items -= 1
        self.num_bytes -= sending.num_bytes
        return num_failures

    def failed(self, sending: Sending, now_s: float, *, is_immediate: bool = False) -> None:
        """Schedules the record to go again."""
        self._num_in_flight -= 1
        if self._acknowledged_s > min(sending.handed_over_s, now_s - STALL_S):  # the broker accepts others
            sending.attempts += 1
            due_s = now_s + self._backoff.pause_s(sending.attempts)
            heapq.heappush(self._delayed, (due_s, sending.number, sending))
            return
        sending.num_immediate += is_immediate
        self._retry(sending)
        if now_s >= self._paused_until_s:  # records that fail together are one failure
            self._num_failures += 1
            self._paused_until_s = now_s + self._backoff.pause_s(self._num_failures)

    def replace(self, sending: Sending, letter: DeadLetter) -> None:
        """Sends `letter` in the place of a record that can never be sent."""
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
    """The time until which waiting records linger, on the monotonic clock: others may join them meanwhile.

    It is not thread-safe: its owner guards it.

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
        """Seconds until it is over; infinite while nothing waits."""
        return self._end_s - now_s

    def shorten(self, linger_s: float, *, now_s: float) -> bool:
        """Ends within `linger_s` seconds from now. Returns whether the sender must be woken to notice that."""
        will_wake = now_s < self._end_s <= now_s + linger_s
        if will_wake:
            return False
        self._end_s = min(self._end_s, now_s + linger_s)
        return True

    def end(self, now_s: float) -> None:
        """Ends now."""
        self._end_s = min(self._end_s, now_s)

    def restart(self) -> None:
        """Nothing waits any more."""
        self._end_s = math.inf


def letter_instead(sending: Sending, error: Exception, *, max_attempts: int, source: str) -> DeadLetter | None:
    """Returns the letter that goes in the place of a record that can never be sent; None where the record goes again.

    A letter that is already as small as it can be goes again, too.
    """
    is_permanent = isinstance(error, SendFailed) and error.is_permanent
    if not is_permanent and sending.attempts < max_attempts:
        return None
    short = unsendable(sending.record, SendFailed(str(error)), sending.place, source=source)
    return short if short != sending.record else None


def resident_bytes(record: Sendable) -> int:
    """Returns the approximate memory of the record's texts and payload, in bytes."""
    return sum(sys.getsizeof(value) for value in msgspec.structs.astuple(record))


LINGER_S = 0.05
ABANDON_S = 1.0
"""Longest time that `close` waits for a client that hangs in an outage; its thread ends with the process then."""

LOG_INTERVAL_S = 10.0
"""Interval at which failures are logged; all are counted."""
MAX_LOGGED_CHARS = 300
NOT_FROM_KAFKA = Place(topic="http", partition=0, offset=0)

log = structlog.get_logger("outbox")


class Outbox:
    """The outgoing records. `send` and `publish` never wait for the broker. Dead letters made here have the source
    `name`."""

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
        self._next_log_s = -math.inf  # when a failure is logged again, on the monotonic clock
        self._is_closed = False
        self._is_abandoned = False
        self._thread = BackgroundThread(self._run, name="outbox")

    def start(self) -> None:
        self._thread.start()

    @property
    def is_full(self) -> bool:
        return self._queue.holds(self._bounds.max_items, self._bounds.max_bytes)

    def send(self, record: Sendable, on_ack: Callable[[], None], place: Place) -> None:
        """Queues the result of the message at `place`.

        `on_ack` is called once, when the broker has the record, or the dead letter in its place; never where the outbox
        is closed before.
        """
        with self._changed:
            self._queue.put(Sending(record, on_ack, place))
            self._wake_within(0.0)

    def publish(self, answer: Answer) -> bool:
        """Accepts an answer that nobody waits for. Returns False where it cannot be kept until the broker has it."""
        with self._changed:
            is_kept = not self._is_closed and self._keep(answer)
            if is_kept:
                self._wake_within(LINGER_S)
        if not is_kept:
            self.counts.add("answers_not_published")
        return is_kept

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        self._thread.check(Unhealthy)

    def close(self, timeout_s: float) -> None:
        """Sends the waiting records, for at most `timeout_s`. Answers still on disk are sent by the next replica."""
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
                log.warning("not_flushed", error=_shortened(error))

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
        if self.is_full or (self._spool.has_failed and self._queue.is_away(time.monotonic())):
            return False
        self._queue.put(Sending(answer, _ignore_ack, NOT_FROM_KAFKA))
        return True

    def _queue_spooled(self) -> bool:
        """Queues spooled answers, as many as leave room for the intake. Returns whether those were all."""
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
        """Takes a delivery report (no error: the broker has the record), in the client's thread or in ours."""
        if error is None:
            sending.on_ack()  # before the record is removed from the queue: `close` waits for that
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
        letter = letter_instead(sending, error, max_attempts=self._bounds.max_attempts, source=self.name)
        if letter is not None:
            self.counts.add("unsendable")
            message_id = shown(sending.record.message_id)
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
