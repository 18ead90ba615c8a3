"""Events from Kafka to answers on Kafka: one thread owns the subscription.

    poll -> refused: dead letter ------------------------------.
         -> Event: tokens -> queue -> engine -> Answer -> outbox -> acknowledged by the broker -> finish(position)

A position is finished only when the broker has what came of it, so a crash at any point delivers the event again. An
event that comes again within the window is answered once; another one under the same name is refused as
`conflicting_id`. While the model has no weights or too much is on its way, the partitions are paused, and polled on,
which keeps us in the group. What was taken is not given back while we live: the outbox sends an answer until the broker
has it, and an event that a fault of the machine left unanswered goes to the model again. A broker that is away takes no
subscription with it: it knows its groups when it is back, so whoever is still a member reads on at once, while it would
wait a session for one who had given up. Only after KEEP_S is another one opened.

Rejected: committing when the event is taken (loses it), a thread for each partition, and opening the subscription anew
to get a record again that could not be sent (whatever stops it stops all partitions then, of all members).
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from random import Random

import msgspec
import structlog

from serving.backoff import pause_s
from serving.errors import QueueClosed, Unhealthy
from serving.item import Item, ItemFailure, Outcome, Unanswered
from serving.kafka.dedupe import Admission, DedupeWindow
from serving.pipeline import Pipeline
from wire.bus import Poll, Position, Received, Refused, Subscription
from wire.envelope import Place, shown
from wire.errors import BusUnavailable, WireError
from wire.events import EventKey, key_of
from wire.records import DeadLetter, Event

POLL_MS = 50
BUSY_POLL_MS = 5
"""While something waits for room in the queue."""

QUIET_S = 2.0
"""A broker answers again when no poll has failed for so long: while it is away some fail, and others bring nothing."""

KEEP_S = 60.0
"""How long in a row a subscription may fail before another one is opened: it may be the client that hangs."""

NOTHING: Poll[Event] = Poll(received=[], refused=[])

log = structlog.get_logger("intake")


def wants_pause(level: int, *, is_paused: bool, high: int) -> bool:
    """Whether to take no more: from `high` on, until half of it is gone.

    >>> [wants_pause(level, is_paused=True, high=8) for level in (3, 4, 8)]
    [False, True, True]
    """
    return level >= (high // 2 if is_paused else high)


class Intake:
    """Feeds the queue from Kafka until it is closed."""

    def __init__(
        self,
        subscribe: Callable[[], Subscription[Event]],
        pipeline: Pipeline,
        window: DedupeWindow,
        *,
        max_open: int,
        reconnect_s: float,
        drain_timeout_s: float,
    ) -> None:
        self._subscribe = subscribe
        self._pipeline = pipeline
        self._window = window
        self._max_open = max_open
        self._reconnect_s = reconnect_s
        self._drain_timeout_s = drain_timeout_s
        self._rng = Random()
        self._backlog: deque[Item] = deque()
        self._unanswered: deque[Item] = deque()
        self._unanswered_s = 0.0  # when these go again, on the monotonic clock
        self._is_paused = False
        self._is_draining = False
        self._num_failures = 0  # in a row
        self._failing_s = self._failed_s = 0.0  # when the first and the last of them were
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="intake", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def check(self) -> None:
        """Raises Unhealthy where the thread has ended by itself."""
        if not self._thread.is_alive():
            raise Unhealthy("the intake has ended")

    def close(self) -> None:
        """Takes nothing more, answers what was taken, commits, and leaves the group."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        """Holds a subscription until closed.

        consumes: Event, from the partitions that the group gives us
        produces: Item, to the queue; Answer and DeadLetter, to the outbox; finished positions
        waits for: records, at most POLL_MS; a broker that is away, some `reconnect_s`
        unblocked by: records, the end of these times, close
        """
        while not self._closing.is_set():
            try:
                with closing(self._subscribe()) as subscription:
                    self._consume(subscription)
                    self._drain()
            except WireError as error:
                self._note_failure(error)
                self._give_back()
                self._closing.wait(pause_s(self._num_failures, first_s=self._reconnect_s, rng=self._rng))

    def _note_failure(self, error: WireError) -> None:
        self._pipeline.counts.add("bus_unavailable")
        self._num_failures += 1
        self._failed_s = time.monotonic()
        if self._num_failures == 1:  # an outage is said once
            self._failing_s = self._failed_s
            log.warning("bus_unavailable", error=str(error))

    def _consume(self, subscription: Subscription[Event]) -> None:
        self._is_paused = False
        while not self._closing.is_set():
            self._set_flow(subscription)
            poll = self._poll(subscription)
            self._refuse(poll.refused, subscription)
            self._admit(poll, subscription)
            self._take_again()
            self._submit()

    def _poll(self, subscription: Subscription[Event]) -> Poll[Event]:
        """What came; nothing, after a pause, while the broker is away. Raises BusUnavailable after KEEP_S of that."""
        try:
            poll = subscription.poll(BUSY_POLL_MS if self._backlog else POLL_MS)
        except BusUnavailable as error:
            self._note_failure(error)
            if time.monotonic() - self._failing_s > KEEP_S:
                raise
            self._closing.wait(pause_s(1, first_s=self._reconnect_s, rng=self._rng))
            return NOTHING
        self._note_success()
        return poll

    def _note_success(self) -> None:
        if self._num_failures and time.monotonic() - self._failed_s > QUIET_S:
            log.info("bus_answers_again", failures=self._num_failures)
            self._num_failures = 0

    def _set_flow(self, subscription: Subscription[Event]) -> None:
        waits = bool(self._backlog or self._unanswered)
        is_held = waits or self._pipeline.outbox.is_full or not self._pipeline.is_ready
        wants = is_held or wants_pause(self._window.num_open, is_paused=self._is_paused, high=self._max_open)
        if wants != self._is_paused:
            self._is_paused = wants
            (subscription.pause if wants else subscription.resume)()

    def _refuse(self, refused: Sequence[Refused], subscription: Subscription[Event]) -> None:
        for each in refused:
            self._pipeline.counts.add(f"refused_{each.dead_letter.reason}")
            finish = partial(subscription.finish, each.position)
            self._pipeline.outbox.send(each.dead_letter, finish, _place_of(each.position))

    def _admit(self, poll: Poll[Event], subscription: Subscription[Event]) -> None:
        new = [received for received in poll.received if self._is_new(received, subscription)]
        dones = [partial(self._done, key_of(received.record), received.position) for received in new]
        self._backlog += self._pipeline.items([received.record for received in new], dones)

    def _is_new(self, received: Received[Event], subscription: Subscription[Event]) -> bool:
        finish = partial(subscription.finish, received.position)
        admission = self._window.admit(received.record, finish)
        if admission is Admission.CONFLICT:
            self._refuse([Refused(dead_letter=_conflicting(received), position=received.position)], subscription)
        elif admission is not Admission.NEW:
            self._pipeline.counts.add("duplicates")
        if admission is Admission.ANSWERED:
            finish()
        return admission is Admission.NEW

    def _take_again(self) -> None:
        """What a fault of the machine left unanswered, after a pause."""
        now_s = time.monotonic()
        if not self._unanswered or now_s < self._unanswered_s:
            return
        self._unanswered_s = now_s + self._reconnect_s
        for _ in range(len(self._unanswered)):
            self._backlog.append(self._unanswered.popleft())

    def _submit(self) -> None:
        try:
            taken = self._pipeline.queue.submit_many(list(self._backlog)) if self._backlog else 0
        except QueueClosed:
            return
        for _ in range(taken):
            self._backlog.popleft()

    def _done(self, key: EventKey, position: Position, outcome: Outcome) -> None:
        """Called by the engine."""
        if isinstance(outcome, Unanswered):
            if self._is_draining:
                self._window.drop(key)
            else:
                self._unanswered.append(outcome.item)
            return
        record = _dead_letter(outcome, position) if isinstance(outcome, ItemFailure) else outcome
        self._pipeline.outbox.send(record, partial(self._window.settle, key), _place_of(position))

    def _drain(self) -> None:
        """Gives back what was not submitted, and waits for what was: all comes again, unless it is finished."""
        self._is_draining = True
        self._give_back()
        if not self._window.wait_until_settled(self._drain_timeout_s):
            log.warning("not_drained", open=self._window.num_open)

    def _give_back(self) -> None:
        for waiting in (self._backlog, self._unanswered):
            while waiting:
                self._window.drop(key_of(waiting.popleft().event))


def _place_of(position: Position) -> Place:
    return Place(topic=position.topic, partition=position.partition, offset=position.offset)


def _conflicting(received: Received[Event]) -> DeadLetter:
    event = received.record
    detail = f"event {shown(event.id)} came before with another text or key; an id is unique within its source"
    return _letter("conflicting_id", detail, event, received.position)


def _dead_letter(failure: ItemFailure, position: Position) -> DeadLetter:
    event = failure.event
    return _letter(failure.reason, f"the model could not answer event {shown(event.id)}", event, position)


def _letter(reason: str, detail: str, event: Event, position: Position) -> DeadLetter:
    """Its payload is the event as we read it: the untouched message is no longer here."""
    return DeadLetter(
        reason=reason,
        detail=detail,
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        payload=msgspec.json.encode(event),
        source=event.source,
        time_ms=event.time_ms,
    )
