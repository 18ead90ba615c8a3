"""Events from Kafka to answers on Kafka: one thread owns the subscription.

    poll -> refused: dead letter ------------------------------.
         -> Event: tokens -> queue -> engine -> Answer -> Delivery -> acknowledged by the broker -> finish(position)

A position is finished only when the broker has the answer or the dead letter, so a crash at any point delivers the
event again. An event that comes again within the window is answered once; another event under the same name is refused
as `conflicting_id`. While the model has no weights or too many events are open, the partitions are paused, and still
polled, which keeps us in the group. Accepted events are not given back while we live: the outbox sends an answer until
the broker has it, and an event that a machine fault left unanswered goes to the model again. A subscription outlives an
unreachable broker. The broker still knows its groups when it is back, so a consumer that is still a member reads on at
once, while the group would wait a session for one that had left. Only after MAX_OUTAGE_S is another subscription
opened.

The `Delivery` of a subscription is how results reach their topic: by the outbox, at least once (`AtLeastOnce`), or in
one transaction with their offsets (`serving/kafka/exactly_once.py`).

Rejected: committing when the event is read (loses it), a thread for each partition, and opening the subscription anew
to get a record again that could not be sent (the cause would then stop all partitions, of all members).
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
from wire.errors import BusUnavailable, WireError
from wire.events import EventKey, key_of
from wire.letters import refuse_event
from wire.message import shown
from wire.records import Answer, DeadLetter, Event
from wire.threads import BackgroundThread


class Delivery(Protocol):
    """The way of results while a subscription is open. The engine's thread calls `put`, the intake's the rest."""

    def expect(self, position: Position, key: EventKey) -> None: ...

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None: ...

    def put_letter(self, letter: DeadLetter, position: Position) -> None: ...

    def turn(self) -> None:
        """Does what is due. Raises BusUnavailable where another subscription must be opened."""

    def close(self) -> None: ...


Deliver: TypeAlias = Callable[[Subscription[Event]], Delivery]


def deliveries(
    outbox: Outbox, window: DedupeWindow, *, transactions: Callable[[], TransactionalPublisher] | None
) -> Deliver:
    """Returns what makes the way of the results of a subscription: by `transactions`, where they are given."""

    def of(subscription: Subscription[Event]) -> Delivery:
        if transactions is None:
            return AtLeastOnce(subscription, outbox=outbox, window=window)
        from serving.kafka.exactly_once import ExactlyOnce

        return ExactlyOnce(
            subscription, open_publisher=transactions, window=window, counts=outbox.counts, name=outbox.name
        )

    return of


class AtLeastOnce:
    """Sends results by the outbox, which finishes the deliveries of an event when the broker has its answer."""

    def __init__(self, subscription: Subscription[Event], *, outbox: Outbox, window: DedupeWindow) -> None:
        self._subscription = subscription
        self._outbox = outbox
        self._window = window

    def expect(self, position: Position, key: EventKey) -> None:
        """The window remembers what is open."""

    def put(self, record: Answer | DeadLetter, key: EventKey, position: Position) -> None:
        self._outbox.send(record, partial(self._window.acknowledge, key), position.place)

    def put_letter(self, letter: DeadLetter, position: Position) -> None:
        self._outbox.send(letter, partial(self._subscription.finish, position), position.place)

    def turn(self) -> None:
        """The subscription commits by itself."""

    def close(self) -> None:
        """The outbox outlives the subscription: what was accepted is sent all the same."""


def letter_of(failure: ItemFailure, position: Position) -> DeadLetter:
    """Returns the dead letter of an event that the model cannot answer."""
    event = failure.event
    detail = failure.detail or f"the model could not answer event {shown(event.id)}"
    return refuse_event(failure.reason, detail, event, position.place)


POLL_MS = 50
BUSY_POLL_MS = 5
"""The timeout of a poll while items wait for room in the queue."""

QUIET_S = 2.0
"""The broker answers again when no poll has failed for this time: during an outage some polls fail, and others are
empty."""

MAX_OUTAGE_S = 60.0
"""Longest time that a subscription fails without a break before another one is opened: the client may be what hangs."""

EMPTY_POLL: Poll[Event] = Poll(received=[], refused=[])

log = structlog.get_logger("intake")


def wants_pause(level: int, *, is_paused: bool, high: int) -> bool:
    """Whether to pause, with hysteresis: from `high` on, until half of it is left.

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
        self._requeue_s = 0.0  # when they go to the model again, on the monotonic clock
        self._is_paused = False
        self._is_draining = False
        self._drain_lock = threading.Lock()  # nothing is left unanswered, or put elsewhere, once the drain has begun
        self._num_failures = 0  # in a row
        self._first_failure_s = 0.0
        self._last_failure_s = 0.0
        self.lag = 0
        """How many events of our partitions have no answer yet, as of the last fetches."""
        self._thread = BackgroundThread(self._run, name="intake")

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        self._thread.check(Unhealthy)

    def close(self) -> None:
        """Reads no more, answers the accepted events, commits, and leaves the group."""
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
        if self._num_failures == 1:  # an outage is logged once
            self._first_failure_s = self._last_failure_s
            log.warning("bus_unavailable", error=str(error))

    def _consume(self, subscription: Subscription[Event], delivery: Delivery) -> None:
        self._is_paused = False
        while not self._thread.closing.is_set():
            delivery.turn()
            self._set_flow(subscription)
            poll = self._poll(subscription)
            self._refuse(poll.refused, delivery)
            self._admit(poll, subscription, delivery)
            self._requeue_unanswered()
            self._submit()
            self.lag = subscription.lag

    def _poll(self, subscription: Subscription[Event]) -> Poll[Event]:
        """Polls; returns nothing, after a pause, during an outage. Raises BusUnavailable after MAX_OUTAGE_S of it."""
        try:
            poll = subscription.poll(BUSY_POLL_MS if self._backlog else POLL_MS)
        except BusUnavailable as error:
            self._record_failure(error)
            if time.monotonic() - self._first_failure_s > MAX_OUTAGE_S:
                raise
            self._thread.closing.wait(self._backoff.pause_s(1))
            return EMPTY_POLL
        self._record_success()
        # nobody answers these: retention, or a broker that has lost its last records, was faster
        self._pipeline.counts.add("events_expired", poll.num_expired)
        self._pipeline.counts.add("log_truncated", len(poll.losses))
        return poll

    def _record_success(self) -> None:
        if self._num_failures and time.monotonic() - self._last_failure_s > QUIET_S:
            log.info("bus_answers_again", failures=self._num_failures)
            self._num_failures = 0

    def _set_flow(self, subscription: Subscription[Event]) -> None:
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
        for each in refused:
            self._pipeline.count(f"refused_{each.dead_letter.reason}")
            delivery.put_letter(each.dead_letter, each.position)

    def _admit(self, poll: Poll[Event], subscription: Subscription[Event], delivery: Delivery) -> None:
        new: list[Received[Event]] = []
        for received in poll.received:
            if self._admit_one(received, subscription, delivery):
                new.append(received)
        dones = [partial(self._done, key_of(received.record), received.position) for received in new]
        self._backlog += self._pipeline.items([received.record for received in new], dones)

    def _admit_one(self, received: Received[Event], subscription: Subscription[Event], delivery: Delivery) -> bool:
        """Returns whether the event is new; refuses a conflicting one, and finishes one that is answered already."""
        finish = partial(subscription.finish, received.position)
        admission = self._window.admit(received.record, finish)
        if admission is Admission.CONFLICT:
            self._refuse([conflicting_id(received)], delivery)
        elif admission is not Admission.NEW:
            self._pipeline.count("duplicates")
        if admission is Admission.ANSWERED:
            finish()
        elif admission is not Admission.CONFLICT:
            delivery.expect(received.position, key_of(received.record))
        return admission is Admission.NEW

    def _requeue_unanswered(self) -> None:
        """Puts the events that a machine fault left unanswered into the backlog again, after a pause."""
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
        """Is called by the engine."""
        if isinstance(outcome, Unanswered):
            with self._drain_lock:
                if not self._is_draining:
                    self._unanswered.append(outcome.item)
                    return
            self._window.drop(key)
            return
        assert not isinstance(outcome, EmbeddedText), "an event on Kafka asks for no vector"
        record = letter_of(outcome, position) if isinstance(outcome, ItemFailure) else outcome
        with self._drain_lock:
            assert self._delivery is not None, "events come from a subscription"
            self._delivery.put(record, key, position)

    def _drain(self) -> None:
        """Drops the items that were not submitted, and waits for the others. All come again, unless they are
        finished."""
        with self._drain_lock:
            self._is_draining = True
        self._drop_waiting()
        if not self._window.wait_until_none_open(self._drain_timeout_s):
            log.warning("not_drained", open=self._window.num_open)

    def _drop_waiting(self) -> None:
        for waiting in (self._backlog, self._unanswered):
            while waiting:
                self._window.drop(key_of(waiting.popleft().event))
