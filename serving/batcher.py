"""The one queue in front of the model: bounded in number and bytes, and cut into batches the moment the model is free.

    Kafka, HTTP (any thread): Event --items_of: tokens--> Item --submit--> [waiting] --take--> the engine's thread
                                 <--------------- done(Outcome) ----------------------------------'

Texts are tokenized before the queue, so that every item knows its cost.

There is no timer while the model is busy: the events that have come meanwhile are the next batch, so batches grow with
the load by themselves. Only an idle model may wait, at most `max_wait_ms`, for more texts after the first.

Rejected: `serve.batch` of Ray (it forms its batch before the model is free and never tops it up, waits by the wall
clock, and one exception fails the batch), and sorting by length (a long text could starve; the model needs no padding).
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Generic, Protocol, TypeAlias, TypeVar

import msgspec

from serving.errors import QueueClosed, QueueFull
from wire.records import Answer, Event

Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]
"""Tokenizes texts."""


def always() -> bool:
    """Returns True: the default of `Item.is_wanted`, for events that nobody gives up on."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFailure:
    """The model could not answer this event, and would fail again. The cause is in the log, not here."""

    event: Event
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """The machine or the weights failed, not this event: a later attempt may answer it."""

    item: "Item"


Outcome: TypeAlias = Answer | ItemFailure | Unanswered
Done: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An event on its way through the model.

    `done` is called once for each time that the item was queued, from the model's thread, so it must not block. An item
    that is not `is_wanted` any more is neither answered nor done.
    """

    event: Event
    token_ids: list[int]
    done: Done
    is_wanted: Callable[[], bool] = always

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)

    @property
    def num_bytes(self) -> int:
        """Approximate memory of the text and the token ids."""
        return sys.getsizeof(self.event.text) + sys.getsizeof(self.token_ids)


def items_of(
    events: Sequence[Event], dones: Sequence[Done], encode: Encode, is_wanted: Callable[[], bool], max_chars: int
) -> list[Item]:
    """Returns an item for each event, with the callback that receives its outcome.

    From here on a text has at most `max_chars`, the length that an answer carries back: the model reads what the
    learner will read, and no longer text waits anywhere.
    """
    events = [_truncated(event, max_chars) for event in events]
    token_ids = encode([event.text for event in events])
    return [
        Item(event=event, token_ids=tokens, done=done, is_wanted=is_wanted)
        for event, tokens, done in zip(events, token_ids, dones, strict=True)
    ]


def _truncated(event: Event, max_chars: int) -> Event:
    if len(event.text) <= max_chars:
        return event
    return msgspec.structs.replace(event, text=event.text[:max_chars])


class Tokenized(Protocol):
    """An item that can wait for the model."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...


T = TypeVar("T", bound=Tokenized)


class QueueState(Enum):
    OPEN = "open"
    CLOSED = "closed"
    """The queue accepts no more items; waiting items are still handed out."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """Texts for one forward pass; when it could have begun, and when each text came, by the queue's clock."""

    items: list[T]
    ready_s: float
    arrived_s: list[float]


def num_fitting(lengths: Iterable[int], *, max_tokens: int, max_items: int) -> int:
    """Returns how many texts, from the first on, make a batch. A text longer than the budget goes alone.

    >>> num_fitting([10, 10, 10], max_tokens=25, max_items=8)
    2
    """
    total = 0
    count = 0
    for length in islice(lengths, max_items):
        total += length
        if count and total > max_tokens:
            break
        count += 1
    return count


class BatchQueue(Generic[T]):
    """A queue of many producers and one consumer. `submit`, `submit_many` and `close` never wait."""

    def __init__(
        self,
        *,
        max_items: int,
        max_bytes: int,
        max_batch_items: int,
        max_batch_tokens: int,
        max_wait_ms: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_batch_items = max_batch_items
        self._max_batch_tokens = max_batch_tokens
        self._max_wait_s = max_wait_ms / 1e3
        self._clock = clock
        self._changed = threading.Condition()
        self._waiting: deque[tuple[T, float]] = deque()
        self._num_tokens = 0
        self._num_bytes = 0
        self._state = QueueState.OPEN

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def load(self) -> float:
        """The waiting items as a share of the bound, in number or in bytes: 1 when the next text is refused."""
        return max(len(self._waiting) / self._max_items, self._num_bytes / self._max_bytes)

    @property
    def has_full_batch(self) -> bool:
        """Whether what waits fills a batch: events come faster than they are answered."""
        return len(self._waiting) >= self._max_batch_items or self._num_tokens >= self._max_batch_tokens

    @property
    def state(self) -> QueueState:
        return self._state

    def submit(self, item: T) -> None:
        """Raises QueueFull or QueueClosed."""
        if not self.submit_many([item]):
            raise QueueFull(f"{len(self._waiting)} texts wait already")

    def submit_many(self, items: Sequence[T]) -> int:
        """Queues as many items as there is room for, from the first on, and returns how many. Raises QueueClosed."""
        with self._changed:
            if self._state is QueueState.CLOSED:
                raise QueueClosed("the replica is being stopped")
            accepted = items[: self._room_for(items)]
            now_s = self._clock()
            self._waiting.extend((item, now_s) for item in accepted)
            self._num_tokens += sum(item.num_tokens for item in accepted)
            self._num_bytes += sum(item.num_bytes for item in accepted)
            self._changed.notify()
        return len(accepted)

    def take(self) -> Batch[T] | None:
        """Returns the next batch; None once the queue is closed and empty.

        consumes: submitted items, in order
        produces: a batch within the budget of tokens and items
        waits for: a first text; then for more texts, while less than `max_wait_ms` has passed since it came
        unblocked by: a full batch, the deadline, close
        """
        with self._changed:
            while not self._waiting and self._state is QueueState.OPEN:
                self._changed.wait()
            if not self._waiting:
                return None
            return self._pop_batch(self._await_more(self._waiting[0][1]))

    def close(self) -> None:
        """Accepts no more items. Waiting items are still handed out."""
        with self._changed:
            self._state = QueueState.CLOSED
            self._changed.notify_all()

    def _room_for(self, items: Sequence[T]) -> int:
        """Returns how many of `items`, from the first on, fit under the bounds."""
        num_bytes = self._num_bytes
        count = 0
        for item in items[: self._max_items - len(self._waiting)]:
            num_bytes += item.num_bytes
            if num_bytes > self._max_bytes:
                break
            count += 1
        return count

    def _await_more(self, arrived_s: float) -> float:
        """Waits for more texts, and returns since when the batch has been ready."""
        ready_s = arrived_s
        while not self.has_full_batch and self._state is QueueState.OPEN:
            left_s = arrived_s + self._max_wait_s - self._clock()
            if left_s <= 0:
                break
            self._changed.wait(left_s)
            ready_s = self._clock()
        return ready_s

    def _pop_batch(self, ready_s: float) -> Batch[T]:
        lengths = (item.num_tokens for item, _ in self._waiting)
        count = num_fitting(lengths, max_tokens=self._max_batch_tokens, max_items=self._max_batch_items)
        taken = [self._waiting.popleft() for _ in range(count)]
        items = [item for item, _ in taken]
        self._num_tokens -= sum(item.num_tokens for item in items)
        self._num_bytes -= sum(item.num_bytes for item in items)
        return Batch(items, ready_s, [arrived_s for _, arrived_s in taken])
