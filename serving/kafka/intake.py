"""Reads events from Kafka, and passes them through the model. One thread owns the subscription.

    poll -> refused: dead letter ------------------------------.
         -> Event: tokens -> queue -> engine -> Answer -> Delivery -> acknowledged by the broker -> finish(position)

**At least once.** A position is finished only when the broker has the answer or the dead letter, so after a crash Kafka
delivers the event again. An event that is repeated within the dedupe window is answered once. Another event with the
same id is refused (`conflicting_id`).

**Back-pressure.** While the model has no weights, or too many events are open, the partitions are paused. They are
still polled, which keeps this consumer in the group. While the process lives, accepted events are never returned to
Kafka: the outbox sends an answer until the broker has it. If an event was not answered because of a machine fault, it
goes to the model again.

**Outages.** A subscription stays open while the broker is unreachable. The broker remembers its groups, so a consumer
that is still a member continues at once after the outage. If it had left, the group would wait for a session time-out.
Another subscription is opened only after MAX_OUTAGE_S.

The `Delivery` of a subscription sends the results: through the outbox, at least once (`AtLeastOnce`), or in one
transaction with their offsets (`serving/kafka/exactly_once.py`).

Rejected:

- Committing an offset when its event is read: a crash would lose the event.
- A thread for each partition.
- Reopening the subscription if a result could not be sent, so that its event is read again: one bad record would stop
  all partitions.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Protocol, TypeAlias

import structlog

from serving.errors import QueueClosed, Unhealthy
from serving.kafka.dedupe import Admission, DedupeWindow, conflicting_id
from serving.kafka.outbox import Outbox
from serving.pipeline import Pipeline
from serving.queue import EmbeddedText, Item, ItemFailure, Outcome, Unanswered
from wire.backoff import Backoff
from wire.bus import Poll, Position, Received, Refused, Subscription
from wire.bus.transactions import TransactionalPublisher
from wire.dead_letters import refuse_event
from wire.errors import BusUnavailable, WireError
from wire.events import EventKey, key_of
from wire.message import quote_text
from wire.records import Answer, DeadLetter, Event
from wire.threads import BackgroundThread


class Delivery(Protocol):
    """Sends the results of one subscription. The engine's thread calls `put`; the intake's thread calls the rest."""

    def expect(self, position: Position, key: EventKey) -> None:
        """Announces a delivery of the event `key` at `position`. `put` will be called with the result."""

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None:
        """Accepts the result of an event."""

    def put_dead_letter(self, letter: DeadLetter, position: Position) -> None:
        """Accepts the dead letter of a message that was refused without reaching the model."""

    def poll(self) -> None:
        """Does the work that is due. The intake calls it before each poll of Kafka.

        Raises BusUnavailable if another subscription must be opened.
        """

    def close(self) -> None:
        """Ends the delivery before its subscription is closed."""


Deliver: TypeAlias = Callable[[Subscription[Event]], Delivery]


def delivery_factory(
    outbox: Outbox, window: DedupeWindow, *, transactions: Callable[[], TransactionalPublisher] | None
) -> Deliver:
    """Returns a function that makes the Delivery of a subscription: exactly once if `transactions` are given."""

    def make_delivery(subscription: Subscription[Event]) -> Delivery:
        if transactions is None:
            return AtLeastOnce(subscription, outbox=outbox, window=window)
        from serving.kafka.exactly_once import ExactlyOnce

        return ExactlyOnce(
            subscription, open_publisher=transactions, window=window, counts=outbox.counts, name=outbox.name
        )

    return make_delivery


class AtLeastOnce:
    """Sends results through the outbox. Finishes all deliveries of an event when the broker has its answer."""

    def __init__(self, subscription: Subscription[Event], *, outbox: Outbox, window: DedupeWindow) -> None:
        self._subscription = subscription
        self._outbox = outbox
        self._window = window

    def expect(self, position: Position, key: EventKey) -> None:
        """Does nothing: the dedupe window remembers the open deliveries."""

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None:
        self._outbox.send(record, partial(self._window.acknowledge, key), position.place)

    def put_dead_letter(self, letter: DeadLetter, position: Position) -> None:
        self._outbox.send(letter, partial(self._subscription.finish, position), position.place)

    def poll(self) -> None:
        """Does nothing: the subscription commits its offsets itself."""

    def close(self) -> None:
        """Does nothing: the outbox outlives the subscription, and sends all accepted results."""


def to_dead_letter(failure: ItemFailure, position: Position) -> DeadLetter:
    """Returns the dead-letter record of an event that the model cannot answer."""
    event = failure.event
    detail = failure.detail or f"the model could not answer event {quote_text(event.id)}"
    return refuse_event(failure.reason, detail, event, position.place)


POLL_MS = 50
BUSY_POLL_MS = 5
"""Time-out of a poll while items wait for space in the queue."""

QUIET_S = 2.0
"""An outage is over when no poll has failed for this many seconds. During an outage, not every poll fails: some return
no records."""

MAX_OUTAGE_S = 60.0
"""Longest outage in seconds before another subscription is opened, because the Kafka client itself may hang."""

EMPTY_POLL: Poll[Event] = Poll(received=[], refused=[])

log = structlog.get_logger("intake")


def wants_pause(level: int, *, is_paused: bool, high: int) -> bool:
    """Whether to pause (hysteresis). Pausing begins at level `high`, and ends when the level is below half of `high`.

    >>> [wants_pause(level, is_paused=True, high=8) for level in (3, 4, 8)]
    [False, True, True]
    """
    limit = high // 2 if is_paused else high
    return level >= limit


class Intake:
    """Feeds the queue from Kafka until it is closed."""

    def __init__(
        self,
        subscribe: Callable[[], Subscription[Event]],
        deliver: Deliver,
        pipeline: Pipeline,
        window: DedupeWindow,
        *,
        max_open: int,
        backoff: Backoff,
        drain_timeout_s: float,
    ) -> None:
        self._subscribe = subscribe
        self._deliver = deliver
        self._delivery: Delivery | None = None
        self._pipeline = pipeline
        self._window = window
        self._max_open = max_open
        self._backoff = backoff
        self._drain_timeout_s = drain_timeout_s
        self._backlog: deque[Item] = deque()
        self._unanswered: deque[Item] = deque()
        # The time at which unanswered items go to the model again, on the monotonic clock.
        self._requeue_s = 0.0
        self._is_paused = False
        self._is_draining = False
        # Guards `_delivery` and `_is_draining`: once the drain has begun, no item becomes unanswered.
        self._drain_lock = threading.Lock()
        # Consecutive failures of polls or subscriptions.
        self._num_failures = 0
        self._first_failure_s = 0.0
        self._last_failure_s = 0.0
        self.lag = 0
        """The number of events in our partitions that have no answer yet, as of the last fetches."""
        self._thread = BackgroundThread(self._run, name="intake")

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raises Unhealthy if the thread has ended without `close`."""
        self._thread.check(Unhealthy)

    def close(self) -> None:
        """Reads no more events, answers the accepted ones, commits, and leaves the group."""
        self._thread.close()

    def _run(self) -> None:
        """Holds a subscription until closed.

        consumes: Event, from the partitions that the group assigns us
        produces: Item, to the queue; Answer and DeadLetter, to the outbox; finished positions
        waits for: records, at most POLL_MS; the back-off, while the broker is unreachable
        unblocked by: records, the end of these times, close
        """
        while not self._thread.closing.is_set():
            try:
                with closing(self._subscribe()) as subscription, closing(self._deliver(subscription)) as delivery:
                    with self._drain_lock:
                        self._delivery = delivery
                    self._consume(subscription, delivery)
                    self._drain()
            except WireError as error:
                self._record_failure(error)
                self._drop_waiting()
                self._thread.closing.wait(self._backoff.pause_s(self._num_failures))

    def _record_failure(self, error: WireError) -> None:
        self._pipeline.count("bus_unavailable")
        self._num_failures += 1
        self._last_failure_s = time.monotonic()
        # An outage is logged once.
        if self._num_failures == 1:
            self._first_failure_s = self._last_failure_s
            log.warning("bus_unavailable", error=str(error))

    def _consume(self, subscription: Subscription[Event], delivery: Delivery) -> None:
        self._is_paused = False
        while not self._thread.closing.is_set():
            delivery.poll()
            self._set_flow(subscription)
            poll = self._poll(subscription)
            self._refuse(poll.refused, delivery)
            self._admit(poll, subscription, delivery)
            self._requeue_unanswered()
            self._submit()
            self.lag = subscription.lag

    def _poll(self, subscription: Subscription[Event]) -> Poll[Event]:
        """Polls Kafka. During an outage it pauses, and returns an empty poll.

        Raises BusUnavailable after MAX_OUTAGE_S.
        """
        try:
            poll = subscription.poll(BUSY_POLL_MS if self._backlog else POLL_MS)
        except BusUnavailable as error:
            self._record_failure(error)
            if time.monotonic() - self._first_failure_s > MAX_OUTAGE_S:
                raise
            self._thread.closing.wait(self._backoff.pause_s(1))
            return EMPTY_POLL
        self._record_success()
        # Nobody answers these events: retention removed them, or the broker lost its last records.
        self._pipeline.counts.add("events_expired", poll.num_expired)
        self._pipeline.counts.add("log_truncated", len(poll.losses))
        return poll

    def _record_success(self) -> None:
        if self._num_failures and time.monotonic() - self._last_failure_s > QUIET_S:
            log.info("bus_answers_again", failures=self._num_failures)
            self._num_failures = 0

    def _set_flow(self, subscription: Subscription[Event]) -> None:
        # Items that wait here must go into the queue first.
        has_waiting = bool(self._backlog or self._unanswered)
        is_blocked = has_waiting or self._pipeline.outbox.is_full or not self._pipeline.is_ready
        must_pause = is_blocked or wants_pause(self._window.num_open, is_paused=self._is_paused, high=self._max_open)
        if must_pause == self._is_paused:
            return
        self._is_paused = must_pause
        if must_pause:
            subscription.pause()
        else:
            subscription.resume()

    def _refuse(self, refused: Sequence[Refused], delivery: Delivery) -> None:
        for refusal in refused:
            self._pipeline.count(f"refused_{refusal.dead_letter.reason}")
            delivery.put_dead_letter(refusal.dead_letter, refusal.position)

    def _admit(self, poll: Poll[Event], subscription: Subscription[Event], delivery: Delivery) -> None:
        new: list[Received[Event]] = []
        for received in poll.received:
            if self._admit_one(received, subscription, delivery):
                new.append(received)
        dones = [partial(self._done, key_of(received.record), received.position) for received in new]
        self._backlog += self._pipeline.items([received.record for received in new], dones)

    def _admit_one(self, received: Received[Event], subscription: Subscription[Event], delivery: Delivery) -> bool:
        """Returns whether the event is new. Refuses a conflicting event, and finishes an answered one."""
        finish = partial(subscription.finish, received.position)
        admission = self._window.admit(received.record, finish)
        if admission is Admission.CONFLICT:
            self._refuse([conflicting_id(received)], delivery)
        elif admission is not Admission.NEW:
            self._pipeline.count("duplicates")
        if admission is Admission.ANSWERED:
            finish()
        # A repeated delivery of an open event is finished together with the first one.
        elif admission is not Admission.CONFLICT:
            delivery.expect(received.position, key_of(received.record))
        return admission is Admission.NEW

    def _requeue_unanswered(self) -> None:
        """Puts the events that were not answered because of a machine fault into the backlog again, after a pause."""
        now_s = time.monotonic()
        if not self._unanswered or now_s < self._requeue_s:
            return
        self._requeue_s = now_s + self._backoff.first_s
        for _ in range(len(self._unanswered)):
            self._backlog.append(self._unanswered.popleft())

    def _submit(self) -> None:
        try:
            num_accepted = self._pipeline.queue.submit_many(list(self._backlog)) if self._backlog else 0
        except QueueClosed:
            return
        for _ in range(num_accepted):
            self._backlog.popleft()

    def _done(self, key: EventKey, position: Position, outcome: Outcome) -> None:
        """Passes the outcome of the event at `position` to the delivery. The engine's thread calls it."""
        if isinstance(outcome, Unanswered):
            with self._drain_lock:
                if not self._is_draining:
                    self._unanswered.append(outcome.item)
                    return
            # The drain must not wait for an event that will not be answered. Kafka delivers it again.
            self._window.drop(key)
            return
        assert not isinstance(outcome, EmbeddedText), "events from Kafka never request vectors"
        record = to_dead_letter(outcome, position) if isinstance(outcome, ItemFailure) else outcome
        with self._drain_lock:
            assert self._delivery is not None, "events come from a subscription"
            self._delivery.put(record, key, position)

    def _drain(self) -> None:
        """Drops the items that were not submitted, and waits for the others. Kafka delivers unfinished events again."""
        with self._drain_lock:
            self._is_draining = True
        self._drop_waiting()
        if not self._window.wait_until_none_open(self._drain_timeout_s):
            log.warning("drain_timed_out", open=self._window.num_open)

    def _drop_waiting(self) -> None:
        for waiting in (self._backlog, self._unanswered):
            while waiting:
                self._window.drop(key_of(waiting.popleft().event))
