"""A bridge between the event loop and the engine's thread. It takes the events of a request, and returns the replies in
order.

    entries --tokens--> Item --submit_many--> queue ... engine --done--> outbox.publish
    labels ----------------------------------------------------------> outbox.send, acknowledged by the broker
                                                                  the last reply of a request wakes the loop <--'

The event loop is woken once for each request, however many events the request has. The outbox accepts an answer before
it is returned to the client, so a label always refers to an answer that will be published. If the outbox cannot keep an
answer, the answer is marked as `Unpublished`.

Rejected: a future for each event (each of them would wake the loop), and publishing an answer after it is returned (its
label could come first, or the answer could be lost).
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Generic, TypeVar

import msgspec

from serving.errors import QueueClosed
from serving.http.problems import Problem
from serving.http.requests import Disconnected, RequestOptions
from serving.http.schemas import Entry, Reply, Unpublished
from serving.kafka.outbox import NOT_FROM_KAFKA
from serving.models import ActiveVersions
from serving.pipeline import Pipeline
from serving.queue import EmbeddedText, ItemFailure, ItemOptions, Outcome, QueueState, Unanswered
from wire.records import Event, Feedback
from wire.tasks import UNKNOWN_TASK, TaskNames
from wire.traces import TRACEPARENT

INLINE_CHARS = 4_096
"""If the texts of a request are longer than this, they are tokenized in another thread. 1 MiB takes a third of a
second, which would block all requests."""

UNWATCHED_S = 0.1
"""Time in seconds after which it is checked whether the client of a waiting request disconnects.

If this were checked from the beginning, a request would take a tenth more processor time.
"""

RETRY_AFTER_S = 1.0

R = TypeVar("R")


def _unavailable(code: str, message: str) -> Problem:
    """Returns a temporary problem: the client may try again after RETRY_AFTER_S."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(status=status, code=code, message=message, retry_after_s=RETRY_AFTER_S)


NO_WEIGHTS = _unavailable("no_weights", "no weights were published yet")
QUEUE_FULL = _unavailable("queue_full", "too many texts are waiting for the model")
STOPPING = _unavailable("stopping", "this replica is being stopped")
FAULT = _unavailable("model_unavailable", "the model cannot answer now")
TIMEOUT = _unavailable("timeout", "the model did not answer in time")
BUS_FULL = _unavailable("bus_full", "too many records wait for the broker")
NOT_ACKNOWLEDGED = _unavailable("not_acknowledged", "the broker has not acknowledged the label yet")
DEADLINE = Problem(
    status=HTTPStatus.GATEWAY_TIMEOUT, code="deadline_exceeded", message="there was no answer before the deadline"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestBridge:
    """Answers requests from an event loop. Also publishes the answers, so that the learner can use their labels."""

    pipeline: Pipeline
    timeout_s: float
    tasks: TaskNames = field(default_factory=TaskNames)

    @property
    def live(self) -> ActiveVersions | None:
        """The versions that answer now; None before the first weights."""
        return self.pipeline.engine.live

    def not_ready_problem(self) -> Problem | None:
        """Returns the reason why this replica cannot answer now; None if it can."""
        if self.pipeline.queue.state is QueueState.CLOSED:
            return STOPPING
        return None if self.pipeline.is_ready else NO_WEIGHTS

    def count_refused(self, code: str) -> None:
        """Counts a request or connection that was refused with this code."""
        self.pipeline.count(f"http_{code}")

    async def answer_many(self, entries: Sequence[Entry], options: RequestOptions) -> list[Reply]:
        """Returns a reply for each entry, in order: its answer, its own problem, or a problem of the replica.

        After the client has disconnected, or its deadline has passed, the model skips events that it has not begun.
        """
        entries = [self._or_task_problem(entry) for entry in entries]
        headers = ((TRACEPARENT, options.traceparent),) if options.traceparent else ()
        # Entries that are problems stay in their places, between the replies to the valid events.
        events = [_with_headers(entry, headers) for entry in entries if isinstance(entry, Event)]
        if not self.pipeline.is_ready:
            replies: list[Reply] = [NO_WEIGHTS] * len(events)
        else:
            replies = await self._answer(events, options)
        remaining = iter(replies)
        return [next(remaining) if isinstance(entry, Event) else entry for entry in entries]

    def task_problem(self, record: Event | Feedback) -> Problem | None:
        """Returns the problem if a record names an unknown task; None if all its tasks are known."""
        problem = self.tasks.find_problem(record)
        if not problem:
            return None
        self.count_refused(UNKNOWN_TASK)
        return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code=UNKNOWN_TASK, message=problem)

    def _or_task_problem(self, entry: Entry) -> Entry:
        return (isinstance(entry, Event) and self.task_problem(entry)) or entry

    async def send_labels(
        self, entries: Sequence[Feedback | Problem], options: RequestOptions
    ) -> list[Feedback | Problem]:
        """Returns for each entry, in order, the label if the broker has acknowledged it, else a problem.

        A label that was not acknowledged in time may still arrive. The client may send it again, because a label counts
        once.
        """
        waiter: _Waiter[Feedback | Problem]
        waiter = _Waiter(len(entries), asyncio.get_running_loop(), *self._timeout(options, NOT_ACKNOWLEDGED))
        outbox = self.pipeline.outbox
        for index, entry in enumerate(entries):
            if isinstance(entry, Problem) or outbox.is_full:
                waiter.resolve(index, entry if isinstance(entry, Problem) else BUS_FULL)
            else:
                outbox.send(entry, partial(waiter.resolve, index, entry), NOT_FROM_KAFKA)
        return await waiter.replies(options.disconnected)

    def _timeout(self, options: RequestOptions, late: Problem) -> tuple[Problem, float]:
        """Returns the problem of a late reply, and the time-out in seconds: the shorter one of the client's and
        ours."""
        if options.timeout_s is not None and options.timeout_s < self.timeout_s:
            return DEADLINE, options.timeout_s
        return late, self.timeout_s

    async def _answer(self, events: Sequence[Event], options: RequestOptions) -> list[Reply]:
        waiter: _Waiter[Reply]
        waiter = _Waiter(len(events), asyncio.get_running_loop(), *self._timeout(options, TIMEOUT))
        dones = [partial(self._done, waiter, index, not options.version) for index in range(len(events))]
        item_options = ItemOptions(
            is_wanted=waiter.is_waiting,
            priority=options.priority,
            version=options.version,
            is_embedding=options.is_embedding,
        )
        if sum(len(event.text) for event in events) <= INLINE_CHARS:
            items = self.pipeline.items(events, dones, item_options)
        else:
            items = await asyncio.to_thread(self.pipeline.items, events, dones, item_options)
        try:
            num_accepted = self.pipeline.queue.submit_many(items)
            refusal = QUEUE_FULL
        except QueueClosed:
            num_accepted = 0
            refusal = STOPPING
        # Items that did not fit into the queue are refused one by one; the others are answered.
        for index in range(num_accepted, len(items)):
            self.pipeline.count(f"refused_{refusal.code}")
            waiter.resolve(index, refusal)
        return await waiter.replies(options.disconnected)

    def _done(self, waiter: "_Waiter[Reply]", index: int, follows_plan: bool, outcome: Outcome) -> None:
        """Resolves the reply to event `index` with its outcome. The engine's thread calls it."""
        waiter.resolve(index, self._to_reply(outcome, follows_plan=follows_plan))

    def _to_reply(self, outcome: Outcome, *, follows_plan: bool) -> Reply:
        if isinstance(outcome, ItemFailure):
            return _failed(outcome)
        if isinstance(outcome, Unanswered):
            return FAULT
        if isinstance(outcome, EmbeddedText):
            return outcome
        # The client chose the version, so the answer must not count as evidence for an arm.
        if not follows_plan:
            return Unpublished(msgspec.structs.replace(outcome, receipt="", vector=None))
        return outcome if self.pipeline.outbox.publish(outcome) else Unpublished(outcome)


class _Waiter(Generic[R]):
    """Collects the replies of one request. Any thread may resolve a reply; the loop waits for all of them.

    Replies that are missing after `timeout_s` seconds are `late`.
    """

    def __init__(self, num: int, loop: asyncio.AbstractEventLoop, late: R, timeout_s: float) -> None:
        self._lock = threading.Lock()
        self._replies: list[R] = [late] * num
        self._num_open = num
        self._has_left = False
        self._end_s = time.monotonic() + timeout_s
        self._loop = loop
        self._all = loop.create_future()
        if not num:
            self._wake()

    def resolve(self, index: int, reply: R) -> None:
        with self._lock:
            self._replies[index] = reply
            self._num_open -= 1
            is_last = not self._num_open
        if is_last:
            # If the loop is closed, no request waits any more.
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._wake)

    def is_waiting(self) -> bool:
        """Whether the client still waits for the replies."""
        return not self._has_left and time.monotonic() < self._end_s

    async def replies(self, disconnected: Disconnected) -> list[R]:
        """Returns the replies as soon as all are resolved, the time is over, or the client disconnects."""
        try:
            await asyncio.wait([self._all], timeout=min(self._left_s, UNWATCHED_S))
            if not self._all.done():
                leaving = asyncio.ensure_future(disconnected())
                await asyncio.wait([self._all, leaving], timeout=self._left_s, return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
        finally:
            # This is also needed if the call was cancelled, as gRPC does when its client disconnects.
            self._has_left = True
        with self._lock:
            return list(self._replies)

    @property
    def _left_s(self) -> float:
        return max(0.0, self._end_s - time.monotonic())

    def _wake(self) -> None:
        if not self._all.done():
            self._all.set_result(None)


def _with_headers(event: Event, headers: tuple[tuple[str, str], ...]) -> Event:
    return msgspec.structs.replace(event, headers=headers) if headers else event


def _failed(failure: ItemFailure) -> Problem:
    if failure.reason == NO_WEIGHTS.code:
        return _unavailable(NO_WEIGHTS.code, failure.detail or NO_WEIGHTS.message)
    message = failure.detail or "the model could not answer this event"
    return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code=failure.reason, message=message)
