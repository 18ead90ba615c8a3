"""Plays the part of those who know the right labels: sends the label of each training event seconds after its answer.

    answers.v1 --> Ledger --> due in 1-4 s, drawn per event, so out of order --> feedback.v1 --> Ledger (its offset)

One label in a hundred is sent twice, as real sources do; the second copy must change nothing.
"""

import heapq
import random
import threading
import time
from collections.abc import Callable
from contextlib import closing

from evals.load.ledger import Ledger
from evals.load.outbox import LoadOutbox
from wire.bus import Bus, partition_name
from wire.records import Answer, Feedback

SOURCE = "demo"
REPEATED = 0.01
POLL_MS = 20
"""How long a poll waits, and so how late a label may be: a poll for each label would take a tenth of a core."""


def delays(number: int, *, seed: int, between_s: tuple[float, float]) -> tuple[float, ...]:
    """Draws the seconds from the answer to each copy of an event's label. One event in a hundred has two copies."""
    rng = random.Random(f"{seed}/label/{number}")
    first = rng.uniform(*between_s)
    if rng.random() < REPEATED:
        return (first, first + rng.uniform(*between_s))
    return (first,)


class Labeller:
    """Owns the labels that were not sent yet. It runs in a thread of its own; any thread may close it."""

    def __init__(
        self,
        bus: Bus,
        ledger: Ledger,
        outbox: LoadOutbox,
        *,
        delays: Callable[[int], tuple[float, ...]],
        now_ms: Callable[[], int],
        is_patient: bool = False,
    ) -> None:
        self._bus = bus
        self._is_patient = is_patient
        self._ledger = ledger
        self._outbox = outbox
        self._delays = delays
        self._now_ms = now_ms
        self._ends = bus.end_offsets(Answer, Feedback)
        self._due: list[tuple[float, int, str, str]] = []  # a heap of (when, number, receipt, source of the event)
        self._closed = threading.Event()

    def run(self) -> None:
        """Reads both topics from their ends at construction, and sends labels as they fall due.

        consumes: Answer, Feedback (its own, to learn the offset of each label)
        produces: Feedback
        waits for: the broker, at most `POLL_MS`
        unblocked by: a record, the time, `close`
        """
        with closing(self._bus.follow([Answer, Feedback], self._ends, is_patient=self._is_patient)) as follower:
            while not self._closed.is_set():
                for received in follower.poll(POLL_MS).received:
                    position = received.position
                    self._record(received.record, partition_name(position), position.offset)
                self._send_due()

    def close(self) -> None:
        self._closed.set()

    def _record(self, record: Answer | Feedback, source: str, offset: int) -> None:
        if isinstance(record, Feedback):
            self._ledger.record_label(record, source, offset)
        elif (number := self._ledger.record_answer(record, read_ms=self._now_ms())) is not None:
            now_s = time.monotonic()
            for delay_s in self._delays(number):
                heapq.heappush(self._due, (now_s + delay_s, number, record.receipt, record.source))

    def _send_due(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            _, number, receipt, event_source = heapq.heappop(self._due)
            event_id, label = self._ledger.event(number)
            self._outbox.send(
                Feedback(
                    event_id=event_id,
                    label=label,
                    source=SOURCE,
                    time_ms=self._now_ms(),
                    receipt=receipt,
                    event_source=event_source,
                )
            )
