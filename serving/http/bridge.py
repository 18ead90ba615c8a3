"""A bridge between the event loop and the engine's thread: events in, replies out, in order.

    entries --tokens--> Item --submit_many--> queue ... engine --done--> outbox.publish
                                                                  the last reply of a request wakes the loop <--'

The loop is woken once for each request, however many events it has. An answer is kept for publication before it is
returned, so that a label refers to an answer that will be published; an answer that cannot be kept says so.

Rejected: a future for each event (each would wake the loop), and publishing an answer after it is returned (its label
could come first, or for an answer that is lost).
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias

from serving.batcher import ItemFailure, Outcome, QueueState, Unanswered
from serving.errors import QueueClosed
from serving.http.schemas import Entry, Problem, Reply, Unpublished
from serving.pipeline import Pipeline
from wire.records import Event

INLINE_CHARS = 4_096
"""Longer texts are tokenized in another thread: 1 MiB takes a third of a second, which would hold up every request."""

UNWATCHED_S = 0.1
"""Requests that wait longer are watched for a disconnect. Watching every request would cost a tenth of one."""

RETRY_AFTER_S = 1.0

HungUp: TypeAlias = Callable[[], Coroutine[Any, Any, None]]
"""Returns when the client has disconnected."""


def _unavailable(code: str, message: str) -> Problem:
    """Returns a refusal after which the client may come back."""
    status = HTTPStatus.SERVICE_UNAVAILABLE
    return Problem(status=status, code=code, message=message, retry_after_s=RETRY_AFTER_S)


NO_WEIGHTS = _unavailable("no_weights", "no weights were published yet")
QUEUE_FULL = _unavailable("queue_full", "too many texts are waiting for the model")
STOPPING = _unavailable("stopping", "this replica is being stopped")
FAULT = _unavailable("model_unavailable", "the model cannot answer now")
TIMEOUT = _unavailable("timeout", "the model did not answer in time")


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestBridge:
    """Asks the engine from an event loop. Answers are published, too, so that feedback on them can be learnt from."""

    pipeline: Pipeline
    timeout_s: float

    def why_not_ready(self) -> Problem | None:
        """Returns what keeps this replica from answering now, or None."""
        if self.pipeline.queue.state is QueueState.CLOSED:
            return STOPPING
        return None if self.pipeline.is_ready else NO_WEIGHTS

    def count_refused(self, code: str) -> None:
        """Counts a request, or a connection, that was refused with the code of its problem."""
        self.pipeline.count(f"http_{code}")

    async def answer_many(self, entries: Sequence[Entry], *, hung_up: HungUp) -> list[Reply]:
        """Returns a reply for each entry: its answer, its own problem, or what kept the model from answering.

        `hung_up` returns when the client has disconnected: then the model skips the items that it has not begun.
        """
        events = [entry for entry in entries if isinstance(entry, Event)]
        if not self.pipeline.is_ready:
            replies: list[Reply] = [NO_WEIGHTS] * len(events)
        else:
            replies = await self._answer(events, hung_up)
        remaining = iter(replies)
        return [next(remaining) if isinstance(entry, Event) else entry for entry in entries]

    async def _answer(self, events: Sequence[Event], hung_up: HungUp) -> list[Reply]:
        waiter = _Waiter(len(events), asyncio.get_running_loop())
        dones = [partial(self._done, waiter, index) for index in range(len(events))]
        if sum(len(event.text) for event in events) <= INLINE_CHARS:
            items = self.pipeline.items(events, dones, waiter.is_waiting)
        else:
            items = await asyncio.to_thread(self.pipeline.items, events, dones, waiter.is_waiting)
        try:
            num_accepted = self.pipeline.queue.submit_many(items)
            refusal = QUEUE_FULL
        except QueueClosed:
            num_accepted = 0
            refusal = STOPPING
        for index in range(num_accepted, len(items)):
            self.pipeline.count(f"refused_{refusal.code}")
            waiter.resolve(index, refusal)
        return await waiter.replies(self.timeout_s, hung_up)

    def _done(self, waiter: "_Waiter", index: int, outcome: Outcome) -> None:
        """Is called by the engine."""
        waiter.resolve(index, self._reply_of(outcome))

    def _reply_of(self, outcome: Outcome) -> Reply:
        if isinstance(outcome, ItemFailure):
            return _failed(outcome)
        if isinstance(outcome, Unanswered):
            return FAULT
        return outcome if self.pipeline.outbox.publish(outcome) else Unpublished(outcome)


class _Waiter:
    """The replies of one request. Any thread resolves one of them; the loop waits for all."""

    def __init__(self, num: int, loop: asyncio.AbstractEventLoop) -> None:
        self._lock = threading.Lock()
        self._replies: list[Reply] = [TIMEOUT] * num
        self._num_open = num
        self._has_left = False
        self._loop = loop
        self._all = loop.create_future()
        if not num:
            self._wake()

    def resolve(self, index: int, reply: Reply) -> None:
        with self._lock:
            self._replies[index] = reply
            self._num_open -= 1
            is_last = not self._num_open
        if is_last:
            with suppress(RuntimeError):  # the loop is closed, so no request waits any more
                self._loop.call_soon_threadsafe(self._wake)

    def is_waiting(self) -> bool:
        """Whether the client still waits for the replies."""
        return not self._has_left

    async def replies(self, timeout_s: float, hung_up: HungUp) -> list[Reply]:
        """Returns the replies after at most `timeout_s` seconds, or when the client disconnects. Unresolved ones are
        timeouts."""
        unwatched_s = min(timeout_s, UNWATCHED_S)
        await asyncio.wait([self._all], timeout=unwatched_s)
        if not self._all.done():
            leaving = asyncio.ensure_future(hung_up())
            waiting = [self._all, leaving]
            await asyncio.wait(waiting, timeout=timeout_s - unwatched_s, return_when=asyncio.FIRST_COMPLETED)
            leaving.cancel()
        self._has_left = True
        with self._lock:
            return list(self._replies)

    def _wake(self) -> None:
        if not self._all.done():
            self._all.set_result(None)


def _failed(failure: ItemFailure) -> Problem:
    return Problem(
        status=HTTPStatus.UNPROCESSABLE_ENTITY, code=failure.reason, message="the model could not answer this event"
    )
