"""Plays the annotators: sends the true label of an event seconds after its answer.

    answer, or reply over HTTP --schedule--> due in 1-4 s, drawn per event, so out of order --> Sender --> feedback.v1

One label in a hundred is sent twice, as real annotators do. The second copy must not change anything.
"""

import heapq
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from evals.load.sender import Sender
from wire.records import Answer, Feedback
from wire.timestamps import now_ms

DUPLICATE_FRACTION = 0.01
"""The fraction of the labels that are sent twice."""

MIN_WAIT_S = 0.02
"""The shortest wait, and so the largest delay of a label. Waking up for every label would take a tenth of a core."""


def delays(number: int, *, seed: int, between_s: tuple[float, float]) -> tuple[float, ...]:
    """Draws the seconds from the answer to each copy of an event's label. One event in a hundred has two copies."""
    rng = random.Random(f"{seed}/label/{number}")
    first = rng.uniform(*between_s)
    if rng.random() < DUPLICATE_FRACTION:
        return (first, first + rng.uniform(*between_s))
    return (first,)


def no_delays(_number: int) -> tuple[float, ...]:
    """Returns no delays: no label is sent."""
    return ()


@dataclass(frozen=True, slots=True)
class Reply:
    """The fields of an answer that feedback must repeat."""

    event_id: str
    key: str
    receipt: str
    source: str | None
    revision: int = 0
    """The revision of the rollout plan under which the answer was given."""
    can_be_labelled: bool = True
    """Whether the answer was published. The learner cannot join a label with an unpublished answer."""

    @classmethod
    def of(cls, answer: Answer) -> "Reply":
        return cls(answer.event_id, answer.key, answer.receipt, answer.source)


@dataclass(order=True, slots=True)
class DueLabel:
    """A label that is sent at `due_s`, in seconds of the monotonic clock."""

    due_s: float
    number: int
    reply: Reply = field(compare=False)


class Labeller:
    """Sends the label of each answered event after a delay. `run` needs a thread of its own; it sends due labels.

    All other methods are thread-safe.

    - `source`: the source of the labels
    - `delays`: returns the seconds from the answer to each copy of the label, by the number of the event
    - `label_of`: returns the label of an event, by its number
    - `labelled`: is called with the number of the event when the broker has acknowledged a copy
    """

    def __init__(
        self,
        sender: Sender,
        *,
        source: str,
        delays: Callable[[int], tuple[float, ...]],
        label_of: Callable[[int], str],
        labelled: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._sender = sender
        self._source = source
        self._delays = delays
        self._label_of = label_of
        self._labelled = labelled
        self._changed = threading.Condition()
        self._due: list[DueLabel] = []
        self._is_held = False
        self._closed = False

    def schedule(self, number: int, reply: Reply) -> None:
        """Schedules the copies of an answered event's label after their delays."""
        now_s = time.monotonic()
        with self._changed:
            next_one = self._due[0] if self._due else None
            for delay_s in self._delays(number):
                heapq.heappush(self._due, DueLabel(now_s + delay_s, number, reply))
            # The thread waits for the earliest label.
            if self._due and self._due[0] is not next_one:
                self._changed.notify()

    def hold(self) -> str:
        """Sends no labels until `release`, even if they are due."""
        with self._changed:
            self._is_held = True
        return ""

    def release(self) -> None:
        with self._changed:
            self._is_held = False
            self._changed.notify()

    @property
    def num_due(self) -> int:
        with self._changed:
            return len(self._due)

    def run(self) -> None:
        """Sends labels when they are due.

        consumes: answered events; produces: Feedback; waits for: the time; unblocked by: `schedule`, `close`
        """
        while True:
            with self._changed:
                if self._closed:
                    return
                if self._is_held or not self._due:
                    self._changed.wait()
                    continue
                wait_s = self._due[0].due_s - time.monotonic()
                if wait_s > 0:
                    self._changed.wait(max(wait_s, MIN_WAIT_S))
                    continue
                due = heapq.heappop(self._due)
            self._sender.send(self._feedback(due), partial(self._labelled, due.number))

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _feedback(self, due: DueLabel) -> Feedback:
        return Feedback(
            event_id=due.reply.event_id,
            event_source=due.reply.source,
            key=due.reply.key,
            receipt=due.reply.receipt,
            label=self._label_of(due.number),
            source=self._source,
            time_ms=now_ms(),
        )
