"""Events from Kafka to answers on Kafka: one thread owns the subscription.

    poll -> refused: dead letter ------------------------------.
         -> Event: tokens -> queue -> engine -> Answer -> outbox -> acknowledged by the broker -> finish(position)

A position is finished only when the broker has what came of it, so a crash at any point delivers the event again. An
event that comes again within the window is answered once. While the model has no weights or too much is on its way,
the partitions are paused, and polled on, which keeps us in the group. An answer that could not be sent is not
finished: the subscription is opened anew, and the broker delivers from the last commit.

Rejected: committing when the event is taken (loses it), and a thread for each partition.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial

import msgspec
import structlog

from serving.core import Core
from serving.dedupe import Admission, DedupeWindow
from serving.engine import Item, ItemFailure, Outcome
from serving.errors import QueueClosed, Unhealthy
from wire.bus import Poll, Received, Refused, Subscription
from wire.errors import WireError
from wire.records import Answer, DeadLetter, Event

POLL_MS = 50
BUSY_POLL_MS = 5
"""While something waits for room in the queue."""

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
        core: Core,
        window: DedupeWindow,
        *,
        max_open: int,
        reconnect_s: float,
        drain_timeout_s: float,
    ) -> None:
        self._subscribe = subscribe
        self._core = core
        self._window = window
        self._max_open = max_open
        self._reconnect_s = reconnect_s
        self._drain_timeout_s = drain_timeout_s
        self._backlog: deque[Item] = deque()
        self._is_paused = False
        self._must_reopen = False
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
        waits for: records, at most POLL_MS; a broker that is away, `reconnect_s`
        unblocked by: records, the end of these times, close
        """
        while not self._closing.is_set():
            try:
                with closing(self._subscribe()) as subscription:
                    self._consume(subscription)
                    self._drain()
            except WireError as error:
                self._core.counts.add("bus_unavailable")
                log.warning("bus_unavailable", error=str(error))
                self._drain()
            self._closing.wait(self._reconnect_s)

    def _consume(self, subscription: Subscription[Event]) -> None:
        self._is_paused = self._must_reopen = False
        while not (self._closing.is_set() or self._must_reopen):
            self._set_flow(subscription)
            poll = subscription.poll(BUSY_POLL_MS if self._backlog else POLL_MS)
            self._refuse(poll.refused, subscription)
            self._admit(poll, subscription)
            self._submit()

    def _set_flow(self, subscription: Subscription[Event]) -> None:
        is_held = bool(self._backlog) or self._core.outbox.is_full or not self._core.is_ready
        wants = is_held or wants_pause(self._window.num_open, is_paused=self._is_paused, high=self._max_open)
        if wants != self._is_paused:
            self._is_paused = wants
            (subscription.pause if wants else subscription.resume)()

    def _refuse(self, refused: Sequence[Refused], subscription: Subscription[Event]) -> None:
        for each in refused:
            self._core.counts.add(f"refused_{each.dead_letter.reason}")
            finish = partial(subscription.finish, each.position)
            self._core.outbox.send(each.dead_letter, partial(self._acknowledged, finish))

    def _admit(self, poll: Poll[Event], subscription: Subscription[Event]) -> None:
        new = [received for received in poll.received if self._is_new(received, subscription)]
        token_ids = self._core.encode([received.record.text for received in new])
        for received, tokens in zip(new, token_ids, strict=True):
            done = partial(self._done, received)
            self._backlog.append(Item(event=received.record, token_ids=tokens, done=done))

    def _is_new(self, received: Received[Event], subscription: Subscription[Event]) -> bool:
        finish = partial(subscription.finish, received.position)
        admission = self._window.admit(received.record, finish)
        if admission is Admission.ANSWERED:
            finish()
        if admission is not Admission.NEW:
            self._core.counts.add("duplicates")
        return admission is Admission.NEW

    def _submit(self) -> None:
        try:
            taken = self._core.queue.submit_many(list(self._backlog)) if self._backlog else 0
        except QueueClosed:
            return
        for _ in range(taken):
            self._backlog.popleft()

    def _done(self, received: Received[Event], outcome: Outcome) -> None:
        """Called by the engine."""
        event = received.record
        record = outcome if isinstance(outcome, Answer) else _dead_letter(received, outcome)
        self._core.outbox.send(record, partial(self._settled, event))

    def _settled(self, event: Event, error: Exception | None) -> None:
        """Called when the broker has the answer, or never will."""
        if error is None:
            self._window.settle(event)
        else:
            self._window.drop(event)
            self._must_reopen = True

    def _acknowledged(self, finish: Callable[[], None], error: Exception | None) -> None:
        if error is None:
            finish()
        else:
            self._must_reopen = True

    def _drain(self) -> None:
        """Gives up what was not submitted, and waits for what was: both come again, unless they are finished."""
        for item in self._backlog:
            self._window.drop(item.event)
        self._backlog.clear()
        if not self._window.wait_until_settled(self._drain_timeout_s):
            log.warning("not_drained", open=self._window.num_open)


def _dead_letter(received: Received[Event], failure: ItemFailure) -> DeadLetter:
    """Its payload is the event as we read it: the untouched message is no longer here."""
    position = received.position
    return DeadLetter(
        reason=failure.reason,
        detail=f"the model could not answer event {failure.event.id!r}",
        topic=position.topic,
        partition=position.partition,
        offset=position.offset,
        payload=msgspec.json.encode(failure.event),
        source=failure.event.source,
        time_ms=failure.event.time_ms,
    )
