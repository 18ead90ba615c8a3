"""The one queue in front of the model: bounded in number and bytes, and cut into batches the moment the model is free.

    Kafka, HTTP (any thread): Event --items_of: tokens--> Item --submit--> [waiting] --take--> the engine's thread
                                 <--------------- done(Outcome) ----------------------------------'

Texts are tokenized before the queue, so that every item knows its cost. The `Terms` of an item say who still waits for
its answer, how urgent it is, which version is asked, and for what. An event on the default terms is answered by the
version that the plan chooses, in the order of its arrival.

There is no timer while the model is busy: the events that have come meanwhile are the next batch, so batches grow with
the load by themselves. Only an idle model may wait, at most `max_wait_ms`, for more texts after the first. Items come
out in the order of their arrival, less the head start of their priority. What nobody waits for any more is dropped when
a batch is cut, takes no place in it, and is counted by `on_abandoned`.

Rejected: `serve.batch` of Ray (it forms its batch before the model is free and never tops it up, waits by the wall
clock, and one exception fails the batch), and sorting by length (a long text could starve; the model needs no padding).
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
    """How many seconds earlier than it has come an event counts as having come.

    So an urgent event overtakes those that wait already, and each event is overtaken only by those that come within
    two seconds after it: none waits for ever.
    """

    HIGH = 1.0
    NORMAL = 0.0
    LOW = -1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Terms:
    """Once `is_wanted` returns False, nobody waits for the answer, and it is not computed (None: somebody always does).

    `version` answers whatever the plan says (0: the plan says who does). With `is_embedding`, the text's vector is
    asked for, and no answer.
    """

    is_wanted: Callable[[], bool] | None = None
    priority: Priority = Priority.NORMAL
    version: int = 0
    is_embedding: bool = False

    @property
    def wish(self) -> tuple[int, bool]:
        """What is asked for: equal for events that can be answered together."""
        return self.version, self.is_embedding


DEFAULT: Final = Terms()


class EmbeddedText(msgspec.Struct, frozen=True, kw_only=True):
    """The vector of one text: `z` is a unit vector, float32, little-endian.

    `encoding` names weights, length limit and arithmetic, as `TextVector` has it ("": they have no name): vectors of
    equal names may be compared.
    """

    z: bytes
    weights_version: int
    arm: str
    precision: str
    encoding: str
    num_tokens: int


Encode: TypeAlias = Callable[[Sequence[str]], list[list[int]]]
"""Returns the numbers that the encoder reads of contents (`wire.inputs`). Raises UnreadableInput."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemFailure:
    """The model could not answer this event, and would fail again. The cause is in the log, unless `detail` has it."""

    event: Event
    reason: str
    detail: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Unanswered:
    """The machine or the weights failed, not this event: a later attempt may answer it."""

    item: "Item"


Outcome: TypeAlias = Answer | EmbeddedText | ItemFailure | Unanswered
Done: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """An event on its way through the model.

    `done` is called once for each time that the item was queued, from the model's thread, so it must not block. An item
    that is not wanted any more, by its `terms`, is neither answered nor done. An `unreadable` item has no tokens, for
    this reason. `digest` is that of its content (`serving/deaths.py`), b"" if nothing is noted of it.
    """

    event: Event
    token_ids: list[int]
    done: Done
    terms: Terms = DEFAULT
    unreadable: str = ""
    digest: bytes = b""
    num_tokens: int = field(init=False)
    num_bytes: int = field(init=False)
    """Approximate memory of what the event says, and of the token ids."""

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
    def terms(self) -> Terms: ...


T = TypeVar("T", bound=Tokenized)


class QueueState(Enum):
    OPEN = "open"
    CLOSED = "closed"
    """The queue accepts no more items; waiting items are still handed out."""


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """At least one text, for one forward pass; when it could have begun, and when each text came, by the queue's
    clock."""

    items: list[T]
    ready_s: float
    arrived_s: list[float]


def uncounted(_num: int) -> None:
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
        on_abandoned: Callable[[int], None] = uncounted,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_abandoned` gets the number of items that were dropped; it is called within `take`, and must not wait."""
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
        """The waiting items as a share of the bound, in number or in bytes: 1 when the next text is refused."""
        return max(self._num_items / self._max_items, self._num_bytes / self._max_bytes)

    @property
    def has_full_batch(self) -> bool:
        """Whether what waits fills a batch: events come faster than they are answered."""
        return self._num_items >= self._max_batch_items or self._num_tokens >= self._max_batch_tokens

    @property
    def state(self) -> QueueState:
        return self._state

    def submit(self, item: T) -> None:
        """Raises QueueFull or QueueClosed."""
        if not self.submit_many([item]):
            raise QueueFull(f"{self._num_items} texts wait already")

    def submit_many(self, items: Sequence[T]) -> int:
        """Queues as many items as there is room for, from the first on, and returns how many. Raises QueueClosed."""
        with self._changed:
            if self._state is QueueState.CLOSED:
                raise QueueClosed("the replica is being stopped")
            now_s = self._clock()
            num_accepted = 0
            for item in items:
                if self._num_items == self._max_items or self._num_bytes + item.num_bytes > self._max_bytes:
                    break
                self._lanes[item.terms.priority].append((item, now_s))
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
        """Waits for more texts, and returns since when the batch has been ready."""
        ready_s = arrived_s
        while not self.has_full_batch and self._state is QueueState.OPEN:
            left_s = arrived_s + self._max_wait_s - self._clock()
            if left_s <= 0:
                break
            self._changed.wait(left_s)
            ready_s = self._clock()
        return ready_s

    def _next_lane(self) -> deque[tuple[T, float]] | None:
        """Returns the lane whose first item is the next one; None where nothing waits."""
        lanes = [(lane[0][1] - priority.value, lane) for priority, lane in self._lanes.items() if lane]
        return min(lanes, key=lambda pair: pair[0])[1] if lanes else None

    def _pop_batch(self, ready_s: float) -> Batch[T]:
        """Takes items up to the budget. A text longer than the budget goes alone."""
        items: list[T] = []
        arrived_s: list[float] = []
        num_tokens = 0
        num_abandoned = 0
        while len(items) < self._max_batch_items and (lane := self._next_lane()) is not None:
            item, came_s = lane[0]
            is_wanted = item.terms.is_wanted is None or item.terms.is_wanted()
            if is_wanted and items and num_tokens + item.num_tokens > self._max_batch_tokens:
                break
            lane.popleft()
            self._num_items -= 1
            self._num_tokens -= item.num_tokens
            self._num_bytes -= item.num_bytes
            if is_wanted:
                items.append(item)
                arrived_s.append(came_s)
                num_tokens += item.num_tokens
            else:
                num_abandoned += 1
        if num_abandoned:
            self._on_abandoned(num_abandoned)
        return Batch(items, ready_s, arrived_s)
