"""The records that a replica sends to Kafka, in a thread of its own: a slow broker, or an outage, delays no answer by
HTTP.

    intake --send--> [SendQueue] --Publisher.send--> broker --acknowledged--> on_ack
    HTTP --publish--> [Spool] ------^                   '--failed--> again, or its dead letter instead
    HTTP --send, a label--> [SendQueue]

A record stays here until the broker has it. One that can never be sent (too large, no encoding, or refused again and
again while others are accepted) becomes a small dead letter of the reason `unsendable`, which goes in its place.

What the intake sends is still in Kafka, too: it waits for `on_ack`, and pauses its partitions while `is_full`. An
answer by HTTP is nowhere else, so it is written to disk before it is returned, and sent from there, in order; the
answers that a killed replica has left are sent by the next one. Where there is no folder, or the disk is full, they
wait in memory; during an outage of the broker, `publish` refuses them then.

A record that somebody waits for goes at once. An answer by HTTP lingers up to LINGER_S for others: each sending costs
the client's threads about a millisecond of the interpreter, which the next request pays.

Rejected: sending from the model's thread (the client takes 40 us of it for each record, and may block for seconds;
writing an answer to disk takes 5), and writing to disk only during an outage (which is known 30 s late).
"""

import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import structlog

from serving.counts import Counts
from serving.errors import Unhealthy
from serving.kafka.http_answers import AnswerSpool, KeepResult
from serving.kafka.sending import Linger, OutboxBounds, Sendable, Sending, SendQueue, letter_instead
from serving.kafka.spool import Mark, Spool
from wire.bus import Publisher
from wire.errors import WireError
from wire.message import Place, shown
from wire.records import Answer, Feedback
from wire.threads import BackgroundThread

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
