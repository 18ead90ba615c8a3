"""Decides which record goes to the broker next, and when: order, lingering, back-off after failures, attempts.

No threads and no clock here.

    put --> [waiting] --next--> in flight --succeeded--> gone
               ^                   |
      [retries, delayed] <--failed-'

Records go in the order in which they were put. While the broker has acknowledged nothing for STALL_S, no more records
are handed over. So few are in flight when it turns out to be unreachable, and after a back-off all of them go again, in
order, before anything newer. Where the broker accepts other records meanwhile, a record that fails waits alone, is
overtaken, and goes again after a back-off of its own; after MAX_ATTEMPTS it counts as one that can never be sent. An
outage is no record's fault, and is not an attempt. A record that fails at once, before another was handed over, goes
behind the waiting ones: they show whether the broker is away or refuses this record alone.

Rejected: leaving retries to the client library alone (it gives up after its delivery timeout, and the record is lost),
and a back-off for all after every failure (one refused record would hold up all others).
"""

import heapq
import math
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

from wire.backoff import Backoff
from wire.errors import SendFailed
from wire.letters import unsendable
from wire.message import Place
from wire.records import Answer, DeadLetter, Feedback

Sendable: TypeAlias = Answer | DeadLetter | Feedback

STALL_S = 1.0
MAX_ATTEMPTS = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class OutboxBounds:
    """The bounds of the unacknowledged records in memory, of the attempts to send one, and the back-off after
    failures."""

    max_items: int
    max_bytes: int
    backoff: Backoff
    max_attempts: int = MAX_ATTEMPTS


@dataclass(slots=True, eq=False)
class Sending:
    """A record on its way to the broker. `on_ack` is called once the broker has it, or the dead letter in its place.

    `place` is that of the message whose result the record is. The other fields belong to the queue.
    """

    record: Sendable
    on_ack: Callable[[], None]
    place: Place
    number: int = 0
    num_bytes: int = 0
    attempts: int = 0
    num_immediate: int = 0  # immediate failures in this outage
    handed_over_s: float = 0.0

    @property
    def priority(self) -> tuple[int, int]:
        """The order among retries: fewer immediate failures first, then older first."""
        return self.num_immediate, self.number


class SendQueue:
    """The records to send. It is not thread-safe: its owner guards it. Verbs: put, next, succeeded, failed, replace."""

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._num_put = 0
        self._waiting: deque[Sending] = deque()
        self._retries: list[tuple[tuple[int, int], Sending]] = []  # a heap by priority
        self._delayed: list[tuple[float, int, Sending]] = []  # a heap by due time
        self._num_in_flight = 0
        self._acknowledged_s = -math.inf  # when the broker last took a record
        self._idle_s = -math.inf  # when a record was last handed over with none in flight
        self._paused_until_s = -math.inf
        self._num_failures = 0  # in a row
        self.num_items = 0
        """Records that the broker has not acknowledged."""
        self.num_bytes = 0
        """Memory of these records."""

    @property
    def has_waiting(self) -> bool:
        """Whether a record waits to be handed over, now or later."""
        return bool(self._waiting or self._retries or self._delayed)

    def holds(self, num_items: int, num_bytes: int) -> bool:
        """Whether it holds as many items, or as many bytes."""
        return self.num_items >= num_items or self.num_bytes >= num_bytes

    def put(self, sending: Sending) -> None:
        self._num_put += 1
        sending.number = self._num_put
        sending.num_bytes = resident_bytes(sending.record)
        self._waiting.append(sending)
        self.num_items += 1
        self.num_bytes += sending.num_bytes

    def next(self, now_s: float) -> Sending | None:
        """Returns the record to hand over now, which is in flight then; None where there is none, or not yet."""
        while self._delayed and self._delayed[0][0] <= now_s:
            self._retry(heapq.heappop(self._delayed)[2])
        if self.wait_s(now_s) > 0:
            return None
        if self._retries and not (self._retries[0][1].num_immediate and self._waiting):
            sending = heapq.heappop(self._retries)[1]
        else:
            sending = self._waiting.popleft()
        if not self._num_in_flight:
            self._idle_s = now_s
        self._num_in_flight += 1
        sending.handed_over_s = now_s
        return sending

    def wait_s(self, now_s: float) -> float:
        """Returns the seconds until `next` must be called; infinite where another event has to happen first."""
        if self._is_stalled(now_s):
            return math.inf
        if self._waiting or self._retries:
            return max(0.0, self._paused_until_s - now_s)
        if self._delayed:
            return max(0.0, self._paused_until_s - now_s, self._delayed[0][0] - now_s)
        return math.inf

    def is_away(self, now_s: float) -> bool:
        """Whether the broker seems to be unreachable."""
        return self._num_failures > 0 or self._is_stalled(now_s)

    def succeeded(self, sending: Sending, now_s: float) -> int:
        """Notes that the broker has the record. Returns how many failures in a row have ended with it."""
        num_failures = self._num_failures
        if num_failures:
            self._end_outage()
        self._acknowledged_s = now_s
        self._num_in_flight -= 1
        self.num_items -= 1
        self.num_bytes -= sending.num_bytes
        return num_failures

    def failed(self, sending: Sending, now_s: float, *, is_immediate: bool = False) -> None:
        """Schedules the record to go again."""
        self._num_in_flight -= 1
        if self._acknowledged_s > min(sending.handed_over_s, now_s - STALL_S):  # the broker accepts others
            sending.attempts += 1
            due_s = now_s + self._backoff.pause_s(sending.attempts)
            heapq.heappush(self._delayed, (due_s, sending.number, sending))
            return
        sending.num_immediate += is_immediate
        self._retry(sending)
        if now_s >= self._paused_until_s:  # records that fail together are one failure
            self._num_failures += 1
            self._paused_until_s = now_s + self._backoff.pause_s(self._num_failures)

    def replace(self, sending: Sending, letter: DeadLetter) -> None:
        """Sends `letter` in the place of a record that can never be sent."""
        self._num_in_flight -= 1
        self.num_bytes += resident_bytes(letter) - sending.num_bytes
        sending.record = letter
        sending.num_bytes = resident_bytes(letter)
        sending.attempts = 0
        self._retry(sending)

    def _retry(self, sending: Sending) -> None:
        heapq.heappush(self._retries, (sending.priority, sending))

    def _end_outage(self) -> None:
        self._num_failures = 0
        retries = [sending for _, sending in self._retries]
        self._retries.clear()
        for sending in retries:
            sending.num_immediate = 0
            self._retry(sending)

    def _is_stalled(self, now_s: float) -> bool:
        return self._num_in_flight > 0 and now_s - max(self._acknowledged_s, self._idle_s) > STALL_S


class Linger:
    """The time until which waiting records linger, on the monotonic clock: others may join them meanwhile.

    It is not thread-safe: its owner guards it.

    >>> linger = Linger()
    >>> linger.shorten(0.05, now_s=1.0), linger.shorten(0.05, now_s=1.01), linger.shorten(0.0, now_s=1.02)
    (True, False, True)
    >>> linger.is_over(1.01), linger.is_over(1.02)
    (False, True)
    """

    def __init__(self) -> None:
        self._end_s = math.inf

    def is_over(self, now_s: float) -> bool:
        return now_s >= self._end_s

    def rest_s(self, now_s: float) -> float:
        """Seconds until it is over; infinite while nothing waits."""
        return self._end_s - now_s

    def shorten(self, linger_s: float, *, now_s: float) -> bool:
        """Ends within `linger_s` seconds from now. Returns whether the sender must be woken to notice that."""
        will_wake = now_s < self._end_s <= now_s + linger_s
        if will_wake:
            return False
        self._end_s = min(self._end_s, now_s + linger_s)
        return True

    def end(self, now_s: float) -> None:
        """Ends now."""
        self._end_s = min(self._end_s, now_s)

    def restart(self) -> None:
        """Nothing waits any more."""
        self._end_s = math.inf


def letter_instead(sending: Sending, error: Exception, *, max_attempts: int, source: str) -> DeadLetter | None:
    """Returns the letter that goes in the place of a record that can never be sent; None where the record goes again.

    A letter that is already as small as it can be goes again, too.
    """
    is_permanent = isinstance(error, SendFailed) and error.is_permanent
    if not is_permanent and sending.attempts < max_attempts:
        return None
    short = unsendable(sending.record, SendFailed(str(error)), sending.place, source=source)
    return short if short != sending.record else None


def resident_bytes(record: Sendable) -> int:
    """Returns the approximate memory of the record's texts and payload, in bytes."""
    return sum(sys.getsizeof(value) for value in msgspec.structs.astuple(record))
