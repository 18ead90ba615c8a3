"""The queue before the model. It is bounded in items and bytes, and a batch is formed at the moment when the model is
free.

    Kafka, HTTP (any thread): Event --make_items: tokens--> Item --submit--> [waiting] --take--> the engine's thread
                                 <--------------- done(Outcome) ----------------------------------'

Texts are tokenized before they enter the queue, so every item knows its cost. `ItemOptions` are the options of an item:
whether its caller still waits, its priority, a requested version, and whether it asks for an answer or a vector. With
the default options, the plan chooses the version, and items are answered in the order of their arrival.

While the model is busy there is no timer: when the model becomes free, the next batch is formed of the texts that have
arrived, so batches grow with the load. Only an idle model may wait for more texts after the first one, at most
`max_wait_ms`. Items are taken in the order of their arrival times minus the head start of their priority. When a batch
is formed, items whose callers no longer wait are dropped. They take no place in the batch, and `on_abandoned` is called
with their number.

Rejected:

- Ray's `serve.batch`: it forms a batch before the model is free and adds nothing later, it waits by the wall clock, and
  one exception fails the whole batch.
- Sorting by length: long texts could starve, and the model needs no padding.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import msgspec

from serving.errors import QueueClosed, QueueFull
from wire.inputs import num_bytes
from wire.records import Answer, Event


class Priority(Enum):
    """The head start of an event in seconds: the queue treats the event as if it had arrived that much earlier.

    So a HIGH event overtakes waiting events. But an event can only be overtaken by events that arrive less than two
    seconds after it, so no event waits for ever.
    """

    HIGH = 1.0
    NORMAL = 0.0
    LOW = -1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemOptions:
    """The options of an item.

    - `is_wanted`: returns whether the caller still waits; once it returns False, the item is not computed. None: the
      caller always waits
    - `priority`: the item's head start in the queue
    - `version`: the version that must answer, whatever the plan says; 0 if the plan chooses
    - `is_embedding`: whether the outcome is the text's vector instead of an answer
    """

    is_wanted: Callable[[], bool] | None = None
    priority: Priority = Priority.NORMAL
    version: int = 0
    is_embedding: bool = False


DEFAULT: Final = ItemOptions()


class EmbeddedText(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one text: `z` is a unit vector, float32, little-endian.

    `encoding` names the weights, length limit and arithmetic, as in `TextVector`; "" if they have no name. Only vectors
    with equal names may be compared.
    """

    z: bytes
    weights_version: int
    arm: str
    precision: str
    encoding: str
    num_tokens: int


Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]
"""Contents (`wire.inputs`) -> the token ids that the encoder reads, for each content. Raises UnreadableInput."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFailure:
    """The outcome of an event that the model can never answer.

    `reason` is a stable code. `detail` has the cause; if it is empty, the cause is in the log.
    """

    event: Event
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """The outcome of an event that was not answered because the machine failed. A later attempt may succeed."""

    item: "Item"


Outcome: TypeAlias = Answer | EmbeddedText | ItemFailure | Unanswered
Done: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An event on its way through the model.

    - `done`: is called with the outcome in the model's thread, once for each time that the item was queued. It must not
      block. It is not called if the caller no longer waits (`item_options.is_wanted`).
    - `unreadable`: the reason why the event has no tokens; "" if it is readable
    - `digest`: the digest of the content for `serving/deaths.py`; b"" if deaths are not noted
    """

    event: Event
    token_ids: list[int]
    done: Done
    item_options: ItemOptions = DEFAULT
    unreadable: str = ""
    digest: bytes = b""
    num_tokens: int = field(init=False)
    num_bytes: int = field(init=False)
    """Approximate memory of the event's content and the token ids."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_tokens", len(self.token_ids))
        object.__setattr__(self, "num_bytes", num_bytes(self.event) + sys.getsizeof(self.token_ids))


class Tokenized(Protocol):
    """An item that can wait for the model."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def item_options(self) -> ItemOptions: ...


T = TypeVar("T", bound=Tokenized)


class QueueState(Enum):
    OPEN = "open"
    CLOSED = "closed"
    """The queue accepts no more items; waiting items are still handed out."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """At least one item, for one forward pass.

    Times are in seconds, by the queue's clock: `ready_s` is the earliest time at which the batch could have begun,
    `arrived_s[i]` the arrival of `items[i]`.
    """

    items: list[T]
    ready_s: float
    arrived_s: list[float]


def ignore_abandoned(_num: int) -> None:
    """Counts nothing."""


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
        on_abandoned: Callable[[int], None] = ignore_abandoned,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_abandoned` receives the number of dropped items. It is called within `take`, and must not wait."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_batch_items = max_batch_items
        self._max_batch_tokens = max_batch_tokens
        self._max_wait_s = max_wait_ms / 1e3
        self._on_abandoned = on_abandoned
        self._clock = clock
        self._changed = threading.Condition()
        self._lanes: dict[Priority, deque[tuple[T, float]]] = {priority: deque() for priority in Priority}
        self._num_items = 0
        self._num_tokens = 0
        self._num_bytes = 0
        self._state = QueueState.OPEN

    def __len__(self) -> int:
        return self._num_items

    @property
    def load(self) -> float:
        """How full the queue is, in [0, 1]: the waiting items as a share of the bound on items or on bytes."""
        return max(self._num_items / self._max_items, self._num_bytes / self._max_bytes)

    @property
    def has_full_batch(self) -> bool:
        """Whether the waiting items fill a batch: events come faster than they are answered."""
        return self._num_items >= self._max_batch_items or self._num_tokens >= self._max_batch_tokens

    @property
    def state(self) -> QueueState:
        return self._state

    def submit(self, item: T) -> None:
        """Queues one item. Raises QueueFull or QueueClosed."""
        if not self.submit_many([item]):
            raise QueueFull(f"{self._num_items} texts wait already")

    def submit_many(self, items: Sequence[T]) -> int:
        """Queues as many of the first items as there is room for, and returns their number. Raises QueueClosed."""
        with self._changed:
            if self._state is QueueState.CLOSED:
                raise QueueClosed("the replica is being stopped")
            now_s = self._clock()
            num_accepted = 0
            for item in items:
                if self._num_items == self._max_items or self._num_bytes + item.num_bytes > self._max_bytes:
                    break
                self._lanes[item.item_options.priority].append((item, now_s))
                self._num_items += 1
                self._num_tokens += item.num_tokens
                self._num_bytes += item.num_bytes
                num_accepted += 1
            self._changed.notify()
        return num_accepted

    def take(self) -> Batch[T] | None:
        """Returns the next batch; None once the queue is closed and empty.

        consumes: submitted items, in the order of their arrival less their head starts
        produces: a batch within the budget of tokens and items
        waits for: a first text; then for more texts, while less than `max_wait_ms` has passed since it came
        unblocked by: a full batch, the deadline, close
        """
        with self._changed:
            while True:
                lane = self._next_lane()
                if lane is not None:
                    batch = self._pop_batch(self._await_more(lane[0][1]))
                    # The batch is empty if no waiting item was wanted.
                    if batch.items:
                        return batch
                elif self._state is QueueState.CLOSED:
                    return None
                else:
                    self._changed.wait()

    def close(self) -> None:
        """Accepts no more items. Waiting items are still handed out."""
        with self._changed:
            self._state = QueueState.CLOSED
            self._changed.notify_all()

    def _await_more(self, arrived_s: float) -> float:
        """Waits for more items after the first one, which arrived at `arrived_s`. Returns the time at which the batch
        was ready."""
        ready_s = arrived_s
        while not self.has_full_batch and self._state is QueueState.OPEN:
            left_s = arrived_s + self._max_wait_s - self._clock()
            if left_s <= 0:
                break
            self._changed.wait(left_s)
            ready_s = self._clock()
        return ready_s

    def _next_lane(self) -> deque[tuple[T, float]] | None:
        """Returns the lane (the queue of one priority) whose first item is the next one; None if no item waits."""
        # A lane is in the order of arrival, so only the first item of each lane can be next.
        lanes = [(lane[0][1] - priority.value, lane) for priority, lane in self._lanes.items() if lane]
        return min(lanes, key=lambda pair: pair[0])[1] if lanes else None

    def _pop_batch(self, ready_s: float) -> Batch[T]:
        """Takes items up to the budget of tokens and items. A text longer than the budget makes a batch of its own."""
        items: list[T] = []
        arrived_s: list[float] = []
        num_tokens = 0
        num_abandoned = 0
        while len(items) < self._max_batch_items and (lane := self._next_lane()) is not None:
            item, item_arrived_s = lane[0]
            is_wanted = item.item_options.is_wanted is None or item.item_options.is_wanted()
            # An item that is not wanted takes no place in the batch, so the budget does not stop it.
            if is_wanted and items and num_tokens + item.num_tokens > self._max_batch_tokens:
                break
            lane.popleft()
            self._num_items -= 1
            self._num_tokens -= item.num_tokens
            self._num_bytes -= item.num_bytes
            if is_wanted:
                items.append(item)
                arrived_s.append(item_arrived_s)
                num_tokens += item.num_tokens
            else:
                num_abandoned += 1
        if num_abandoned:
            self._on_abandoned(num_abandoned)
        return Batch(items, ready_s, arrived_s)
