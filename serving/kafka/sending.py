"""Which record goes to the broker next, and when: order, pauses after failures, attempts. No threads, no clock here.

    put --> [waiting] --next--> in flight --succeeded--> gone
               ^                   |
         [again, later] <--failed--'

Records go in the order in which they were put. While the broker has acknowledged nothing for STALL_S, nothing more is
handed over; so little is on its way when it turns out to be away, and after a pause all of that goes again, in order,
before anything newer. Where the broker takes other records meanwhile, a record that fails waits alone, is overtaken,
and goes again after a pause of its own; after MAX_ATTEMPTS it is taken for one that can never be sent. An outage is
nobody's fault, and is no attempt. But where a record fails at once, before anything else could be handed over, others
are tried before it goes again: it may be the only one that fails.

Rejected: to leave trying to the client library alone (it gives up after its delivery timeout, and the record is lost),
and a pause for all after every failure (one record that is refused would hold up all others).
"""

import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

import msgspec

from serving.backoff import pause_s
from wire.envelope import Place
from wire.records import Answer, DeadLetter

Sendable: TypeAlias = Answer | DeadLetter

STALL_S = 1.0
MAX_ATTEMPTS = 100


@dataclass(slots=True, eq=False)
class Sending:
    """A record on its way. `on_ack` is called once the broker has it, or the dead letter that took its place.

    `place` is where the message lies that it came of. The other fields belong to the queue.
    """

    record: Sendable
    on_ack: Callable[[], None]
    place: Place
    number: int = 0
    num_bytes: int = 0
    attempts: int = 0
    num_at_once: int = 0  # failures at once in this outage
    handed_over_s: float = 0.0

    @property
    def turn(self) -> tuple[int, int]:
        """Where it stands among those that go again."""
        return self.num_at_once, self.number


class SendQueue:
    """To be guarded by its owner. Verbs: put, next, succeeded, failed, replace."""

    def __init__(self, *, first_pause_s: float, rng: Random) -> None:
        self._first_pause_s = first_pause_s
        self._rng = rng
        self._num_put = 0
        self._waiting: deque[Sending] = deque()
        self._again: list[tuple[tuple[int, int], Sending]] = []  # a heap by turn
        self._later: list[tuple[float, int, Sending]] = []  # a heap by when they go again
        self._num_in_flight = 0
        self._acknowledged_s = -math.inf  # when the broker last took a record
        self._idle_s = -math.inf  # when nothing was in flight for the last time
        self._hold_until_s = -math.inf
        self._num_failures = 0  # in a row
        self.num_items = 0
        """Records that the broker has not acknowledged."""
        self.num_bytes = 0
        """Memory of these records."""

    @property
    def has_waiting(self) -> bool:
        """Whether a record waits to be handed over, now or later."""
        return bool(self._waiting or self._again or self._later)

    def put(self, sending: Sending) -> None:
        self._num_put += 1
        sending.number = self._num_put
        sending.num_bytes = memory_of(sending.record)
        self._waiting.append(sending)
        self.num_items += 1
        self.num_bytes += sending.num_bytes

    def next(self, now_s: float) -> Sending | None:
        """The record to hand over now, which is in flight from then on; None where there is none, or not yet."""
        while self._later and self._later[0][0] <= now_s:
            self._go_again(heapq.heappop(self._later)[2])
        if self.wait_s(now_s) > 0:
            return None
        is_due_again = self._again and not (self._again[0][1].num_at_once and self._waiting)
        sending = heapq.heappop(self._again)[1] if is_due_again else self._waiting.popleft()
        if not self._num_in_flight:
            self._idle_s = now_s
        self._num_in_flight += 1
        sending.handed_over_s = now_s
        return sending

    def wait_s(self, now_s: float) -> float:
        """After how long `next` has to be asked; infinite where something has to happen before."""
        if self._is_stalled(now_s):
            return math.inf
        if self._waiting or self._again:
            return max(0.0, self._hold_until_s - now_s)
        return max(0.0, self._hold_until_s - now_s, self._later[0][0] - now_s) if self._later else math.inf

    def is_away(self, now_s: float) -> bool:
        """Whether the broker seems to be away."""
        return self._num_failures > 0 or self._is_stalled(now_s)

    def succeeded(self, sending: Sending, now_s: float) -> int:
        """The broker has the record. Returns how many failures in a row have ended with it."""
        ended = self._num_failures
        if ended:
            self._end_outage()
        self._acknowledged_s = now_s
        self._num_in_flight -= 1
        self.num_items -= 1
        self.num_bytes -= sending.num_bytes
        return ended

    def failed(self, sending: Sending, now_s: float, *, at_once: bool = False) -> None:
        """The record goes again."""
        self._num_in_flight -= 1
        if self._acknowledged_s > min(sending.handed_over_s, now_s - STALL_S):  # the broker takes others
            sending.attempts += 1
            due_s = now_s + self._pause_s(sending.attempts)
            heapq.heappush(self._later, (due_s, sending.number, sending))
            return
        sending.num_at_once += at_once
        self._go_again(sending)
        if now_s >= self._hold_until_s:  # those that fail together are one failure
            self._num_failures += 1
            self._hold_until_s = now_s + self._pause_s(self._num_failures)

    def replace(self, sending: Sending, letter: DeadLetter) -> None:
        """`letter` goes in the place of a record that can never be sent."""
        self._num_in_flight -= 1
        self.num_bytes += memory_of(letter) - sending.num_bytes
        sending.record = letter
        sending.num_bytes = memory_of(letter)
        sending.attempts = 0
        self._go_again(sending)

    def _go_again(self, sending: Sending) -> None:
        heapq.heappush(self._again, (sending.turn, sending))

    def _end_outage(self) -> None:
        self._num_failures = 0
        again = [sending for _, sending in self._again]
        self._again.clear()
        for sending in again:
            sending.num_at_once = 0
            self._go_again(sending)

    def _is_stalled(self, now_s: float) -> bool:
        return self._num_in_flight > 0 and now_s - max(self._acknowledged_s, self._idle_s) > STALL_S

    def _pause_s(self, num_failures: int) -> float:
        return pause_s(num_failures, first_s=self._first_pause_s, rng=self._rng)


def memory_of(record: Sendable) -> int:
    """Bytes that the record's texts and payload take in memory, about."""
    return sum(sys.getsizeof(value) for value in msgspec.structs.astuple(record))
