"""A bridge between the event loop and the engine's thread: events in, replies out, in order.

    entries --tokens--> Item --submit_many--> queue ... engine --done--> outbox.publish
    labels ----------------------------------------------------------> outbox.send, acknowledged by the broker
                                                                  the last reply of a request wakes the loop <--'

The loop is woken once for each request, however many events it has. An answer is kept for publication before it is
returned, so that a label refers to an answer that will be published; an answer that cannot be kept says so.

Rejected: a future for each event (each would wake the loop), and publishing an answer after it is returned (its label
could come first, or for an answer that is lost).
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
from serving.http.requests import Ask, HungUp
from serving.http.schemas import Entry, Reply, Unpublished
from serving.kafka.outbox import NOT_FROM_KAFKA
from serving.models import ActiveVersions
from serving.pipeline import Pipeline
from serving.queue import EmbeddedText, ItemFailure, Outcome, QueueState, Terms, Unanswered
from wire.records import Event, Feedback
from wire.tasks import UNKNOWN_TASK, TaskNames
from wire.traces import TRACEPARENT

INLINE_CHARS = 4_096
"""Longer texts are tokenized in another thread: 1 MiB takes a third of a second, which would hold up every request."""

UNWATCHED_S = 0.1
"""Requests that wait longer are watched for a disconnect. Watching every request would cost a tenth of one."""

RETRY_AFTER_S = 1.0

R = TypeVar("R")


def _unavailable(code: str, message: str) -> Problem:
    """Returns a refusal after which the client may come back."""
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
    """Asks the engine from an event loop. Answers are published, too, so that feedback on them can be learnt from."""

    pipeline: Pipeline
    timeout_s: float
    tasks: TaskNames = field(default_factory=TaskNames)

    @property
    def live(self) -> ActiveVersions | None:
        """The versions that answer now; None before the first weights."""
        return self.pipeline.engine.live

    def why_not_ready(self) -> Problem | None:
        """Returns what keeps this replica from answering now, or None."""
        if self.pipeline.queue.state is QueueState.CLOSED:
            return STOPPING
        return None if self.pipeline.is_ready else NO_WEIGHTS

    def count_refused(self, code: str) -> None:
        """Counts a request, or a connection, that was refused with the code of its problem."""
        self.pipeline.count(f"http_{code}")

    async def answer_many(self, entries: Sequence[Entry], ask: Ask) -> list[Reply]:
        """Returns a reply for each entry: its answer, its own problem, or what kept the model from answering.

        When the client has disconnected, or its deadline is over, the model skips the items that it has not begun.
        """
        entries = [self._checked(entry) for entry in entries]
        headers = ((TRACEPARENT, ask.traceparent),) if ask.traceparent else ()
        events = [_with_headers(entry, headers) for entry in entries if isinstance(entry, Event)]
        if not self.pipeline.is_ready:
            replies: list[Reply] = [NO_WEIGHTS] * len(events)
        else:
            replies = await self._answer(events, ask)
        remaining = iter(replies)
        return [next(remaining) if isinstance(entry, Event) else entry for entry in entries]

    def checked(self, record: Event | Feedback) -> Problem | None:
        """Returns what is wrong with the tasks that a record names; None where there are all of them."""
        problem = self.tasks.problem_of(record)
        if not problem:
            return None
        self.count_refused(UNKNOWN_TASK)
        return Problem(status=HTTPStatus.UNPROCESSABLE_ENTITY, code=UNKNOWN_TASK, message=problem)

    def _checked(self, entry: Entry) -> Entry:
        return (isinstance(entry, Event) and self.checked(entry)) or entry

    async def send_labels(self, entries: Sequence[Feedback | Problem], ask: Ask) -> list[Feedback | Problem]:
        """Returns each label that the broker has, or the problem in its place. What was not acknowledged in time may
        arrive all the same, and may be sent again: a label counts once."""
        waiter: _Waiter[Feedback | Problem]
        waiter = _Waiter(len(entries), asyncio.get_running_loop(), *self._patience(ask, NOT_ACKNOWLEDGED))
        outbox = self.pipeline.outbox
        for index, entry in enumerate(entries):
            if isinstance(entry, Problem) or outbox.is_full:
                waiter.resolve(index, entry if isinstance(entry, Problem) else BUS_FULL)
            else:
                outbox.send(entry, partial(waiter.resolve, index, entry), NOT_FROM_KAFKA)
        return await waiter.replies(ask.hung_up)

    def _patience(self, ask: Ask, late: Problem) -> tuple[Problem, float]:
        """Returns how many seconds are waited, by us or by the client, and what an answer is that is later."""
        if ask.timeout_s is not None and ask.timeout_s < self.timeout_s:
            return DEADLINE, ask.timeout_s
        return late, self.timeout_s

    async def _answer(self, events: Sequence[Event], ask: Ask) -> list[Reply]:
        waiter: _Waiter[Reply]
        waiter = _Waiter(len(events), asyncio.get_running_loop(), *self._patience(ask, TIMEOUT))
        dones = [partial(self._done, waiter, index, not ask.version) for index in range(len(events))]
        terms = Terms(
            is_wanted=waiter.is_waiting, priority=ask.priority, version=ask.version, is_embedding=ask.is_embedding
        )
        if sum(len(event.text) for event in events) <= INLINE_CHARS:
            items = self.pipeline.items(events, dones, terms)
        else:
            items = await asyncio.to_thread(self.pipeline.items, events, dones, terms)
        try:
            num_accepted = self.pipeline.queue.submit_many(items)
            refusal = QUEUE_FULL
        except QueueClosed:
            num_accepted = 0
            refusal = STOPPING
        for index in range(num_accepted, len(items)):
            self.pipeline.count(f"refused_{refusal.code}")
            waiter.resolve(index, refusal)
        return await waiter.replies(ask.hung_up)

    def _done(self, waiter: "_Waiter[Reply]", index: int, is_by_plan: bool, outcome: Outcome) -> None:
        """Is called by the engine."""
        waiter.resolve(index, self._reply_of(outcome, is_by_plan=is_by_plan))

    def _reply_of(self, outcome: Outcome, *, is_by_plan: bool) -> Reply:
        if isinstance(outcome, ItemFailure):
            return _failed(outcome)
        if isinstance(outcome, Unanswered):
            return FAULT
        if isinstance(outcome, EmbeddedText):
            return outcome
        if not is_by_plan:  # it was not drawn by the plan, so that it would be no evidence for an arm
            return Unpublished(msgspec.structs.replace(outcome, receipt="", vector=None))
        return outcome if self.pipeline.outbox.publish(outcome) else Unpublished(outcome)


class _Waiter(Generic[R]):
    """The replies of one request. Any thread resolves one of them; the loop waits for all, for `timeout_s`.

    A reply that is not there by then is `late`.
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
            with suppress(RuntimeError):  # the loop is closed, so no request waits any more
                self._loop.call_soon_threadsafe(self._wake)

    def is_waiting(self) -> bool:
        """Whether the client still waits for the replies."""
        return not self._has_left and time.monotonic() < self._end_s

    async def replies(self, hung_up: HungUp) -> list[R]:
        """Returns the replies when all are there, the time is over, or the client disconnects."""
        try:
            await asyncio.wait([self._all], timeout=min(self._left_s, UNWATCHED_S))
            if not self._all.done():
                leaving = asyncio.ensure_future(hung_up())
                await asyncio.wait([self._all, leaving], timeout=self._left_s, return_when=asyncio.FIRST_COMPLETED)
                leaving.cancel()
        finally:
            self._has_left = True  # also where a call was cancelled, as gRPC does when its client has gone
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
