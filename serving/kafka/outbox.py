"""What a replica sends to Kafka, in a thread of its own: a broker that is slow or away holds up no answer by HTTP.

    intake --send--> [SendQueue] --Publisher.send--> broker --acknowledged--> on_ack
    HTTP --publish--> [Spool] ------^                   '--failed--> again, or its dead letter instead

A record stays here until the broker has it. One that can never be sent (too large, no encoding, or refused again and
again while others are taken) becomes a small dead letter of the reason `unsendable`, which goes in its place.

The intake holds what it sends in Kafka too: it waits for `on_ack`, and pauses its partitions while `is_full`. An answer
by HTTP is nowhere else, so it is kept on disk before it is given, and sent from there, in order: what a replica that
was killed has left is sent by the next one. Where there is no folder, or the disk is full, memory has to do; while the
broker is away, too, `publish` says no.

What somebody waits for goes at once. An answer by HTTP waits up to PATIENCE_S for company: each sending costs the
client's threads about a millisecond of the interpreter, which the next request pays.

Rejected: sending from the model's thread (the client takes 40 us of it for each record, and may block for seconds;
keeping an answer on disk takes 5), and disk only once the broker is away (which is known 30 s late).
"""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from random import Random

import structlog

from serving.backoff import pause_s
from serving.counts import Counts
from serving.errors import Unhealthy
from serving.kafka.http_answers import Keeping, KeptAnswers
from serving.kafka.sending import MAX_ATTEMPTS, Sendable, Sending, SendQueue
from serving.kafka.spool import Mark, Spool
from wire.bus import Publisher
from wire.envelope import Place, shown
from wire.errors import SendFailed, WireError
from wire.letters import unsendable
from wire.records import Answer

PATIENCE_S = 0.05
GIVE_UP_S = 1.0  # for a client that waits for a broker that is away; it ends with the process then
SAY_S = 10.0
"""A failure is said at most so often; all are counted."""
MAX_LOGGED_CHARS = 300
NOT_FROM_KAFKA = Place(topic="http", partition=0, offset=0)

log = structlog.get_logger("outbox")


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxBounds:
    """How much may wait for the broker's acknowledgement in memory, and the first pause after a failure."""

    max_items: int
    max_bytes: int
    first_pause_s: float


class Outbox:
    """`send` and `publish` never wait for the broker. `name` is the source of the dead letters that are made here."""

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
        self._counts = counts
        self._bounds = bounds
        self._name = name
        self._rng = Random()
        self._changed = threading.Condition()
        self._queue = SendQueue(first_pause_s=bounds.first_pause_s, rng=self._rng)
        self._kept = KeptAnswers(spool, counts)
        self._due_s = math.inf  # when what waits goes, on the monotonic clock
        self._say_s = -math.inf  # when a failure is said again
        self._is_closed = False
        self._is_abandoned = False
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def is_full(self) -> bool:
        return self._has(self._bounds.max_items, self._bounds.max_bytes)

    def send(self, record: Sendable, on_ack: Callable[[], None], place: Place) -> None:
        """Takes what came of the message at `place`. `on_ack` is called once, when the broker has the record, or the
        dead letter that took its place; never where we are closed before."""
        with self._changed:
            self._queue.put(Sending(record, on_ack, place))
            self._wake_after(0.0)

    def publish(self, answer: Answer) -> bool:
        """Takes an answer that nobody waits for. False where it cannot be kept until the broker has it."""
        with self._changed:
            is_kept = not self._is_closed and self._keep(answer)
            if is_kept:
                self._wake_after(PATIENCE_S)
        if not is_kept:
            self._counts.add("answers_not_published")
        return is_kept

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        if not self._thread.is_alive():
            raise Unhealthy("the outbox has ended")

    def close(self, timeout_s: float) -> None:
        """Sends what waits, for at most `timeout_s` seconds. What lies on disk then is sent by the next replica."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        with self._changed:
            self._is_abandoned = True
            self._kept.close()
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join(GIVE_UP_S)

    def _run(self) -> None:
        """Sends until closed and empty.

        consumes: what was given to `send` and `publish`, what other replicas have left on disk
        produces: Answer and DeadLetter, to the broker
        waits for: a record, or the end of its patience; acknowledgements; the pause after a failure
        unblocked by: send, publish, acknowledgements, close
        """
        publisher = self._connected()
        while publisher is not None and (sending := self._next()) is not None:
            try:
                publisher.send(sending.record, partial(self._settle, sending))
            except WireError as error:
                self._settle(sending, error, at_once=True)
        if publisher is not None:
            try:
                publisher.close()
            except WireError as error:
                log.warning("not_flushed", error=_cut(error))

    def _connected(self) -> Publisher | None:
        num_failures = 0
        while not self._is_abandoned:
            try:
                return self._open_publisher()
            except WireError as error:
                num_failures += 1
                self._counts.add("bus_unavailable")
                log.warning("bus_unavailable", error=_cut(error))
            rest_s = pause_s(num_failures, first_s=self._bounds.first_pause_s, rng=self._rng)
            with self._changed:
                self._changed.wait_for(lambda: self._is_abandoned, rest_s)
        return None

    def _next(self) -> Sending | None:
        with self._changed:
            while not self._is_abandoned:
                now_s = time.monotonic()
                if self._kept.adopt(now_s):
                    self._due_s = now_s
                if self._is_closed or now_s >= self._due_s:
                    is_all_read = self._read_kept()
                    if (sending := self._queue.next(now_s)) is not None:
                        return sending
                    if is_all_read and not self._queue.has_waiting:
                        self._due_s = math.inf
                if self._is_closed and not self._queue.num_items:
                    return None
                self._changed.wait(self._rest_s(now_s))
        return None

    def _rest_s(self, now_s: float) -> float | None:
        rest_s = self._queue.wait_s(now_s) if self._is_closed or now_s >= self._due_s else self._due_s - now_s
        rest_s = min(rest_s, self._kept.adopt_s - now_s)
        return None if rest_s == math.inf else rest_s

    def _wake_after(self, patience_s: float) -> None:
        now_s = time.monotonic()
        will_wake = now_s < self._due_s <= now_s + patience_s
        if not will_wake:
            self._due_s = min(self._due_s, now_s + patience_s)
            self._changed.notify()

    def _keep(self, answer: Answer) -> bool:
        keeping = self._kept.keep(answer)
        if keeping is not Keeping.NO_DISK:
            return keeping is Keeping.KEPT
        if self.is_full or (self._kept.has_failed and self._queue.is_away(time.monotonic())):
            return False
        self._queue.put(Sending(answer, _nobody_waits, NOT_FROM_KAFKA))
        return True

    def _read_kept(self) -> bool:
        """As much as leaves room for the intake. Whether that was all."""
        max_items = self._bounds.max_items
        max_bytes = self._bounds.max_bytes
        while not self._has((max_items + 1) // 2, max_bytes // 2):
            if (kept := self._kept.take()) is None:
                return True
            self._queue.put(Sending(kept.answer, partial(self._finish, kept.mark), NOT_FROM_KAFKA))
        return False

    def _finish(self, mark: Mark) -> None:
        with self._changed:
            self._kept.finish(mark)

    def _settle(self, sending: Sending, error: Exception | None, *, at_once: bool = False) -> None:
        """The broker has the record, or it was not sent. Called by the client's thread, and by ours."""
        if error is None:
            sending.on_ack()  # before it counts as gone: `close` waits for that
        with self._changed:
            now_s = time.monotonic()
            if error is None:
                self._succeeded(sending, now_s)
            else:
                self._failed(sending, error, now_s, at_once=at_once)
                self._due_s = min(self._due_s, now_s)
            self._changed.notify()

    def _succeeded(self, sending: Sending, now_s: float) -> None:
        if num_failures := self._queue.succeeded(sending, now_s):
            log.info("bus_answers_again", failures=num_failures, waiting=self._queue.num_items)
        if not isinstance(sending.record, Answer):
            self._counts.add("dead_letters")

    def _failed(self, sending: Sending, error: Exception, now_s: float, *, at_once: bool) -> None:
        self._counts.add("send_failed")
        is_permanent = isinstance(error, SendFailed) and error.is_permanent
        if is_permanent or sending.attempts >= MAX_ATTEMPTS:
            letter = unsendable(sending.record, SendFailed(str(error)), sending.place, source=self._name)
            if letter != sending.record:
                self._counts.add("unsendable")
                log.error("unsendable", id=shown(sending.record.message_id), tried=sending.attempts, error=_cut(error))
                self._queue.replace(sending, letter)
                return
        self._queue.failed(sending, now_s, at_once=at_once)
        if now_s >= self._say_s:
            self._say_s = now_s + SAY_S
            log.warning("send_failed", waiting=self._queue.num_items, error=_cut(error))

    def _has(self, num_items: int, num_bytes: int) -> bool:
        return self._queue.num_items >= num_items or self._queue.num_bytes >= num_bytes


def _nobody_waits() -> None: ...


def _cut(error: Exception) -> str:
    return str(error)[:MAX_LOGGED_CHARS]
