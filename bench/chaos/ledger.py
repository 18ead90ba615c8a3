"""What the load has seen, by the number of the event: columns of plain numbers, so that a hundred thousand stay small.

    pacer: sent --> asker: replied | reader: answered --> labeller: labelled --> oracle: as_sent

An event's id is `chaos-<number>`, and its text and label follow from the number.
"""

import math
import threading
from array import array
from collections.abc import Callable, Mapping

from bench.chaos.oracle import Sent
from bench.chaos.timeline import Sign, recovered_s, recovery_s

PREFIX = "chaos-"

HTTP = "http"
KAFKA = "kafka"
LEARNER = "learner"
ROLLOUT = "rollout"
TRACKS = (HTTP, KAFKA, LEARNER, ROLLOUT)
"""What must live: answers by both ways, the learner's count of labels, and the revision of the plan."""


def id_of(number: int) -> str:
    """
    >>> number_of(id_of(7))
    7
    """
    return f"{PREFIX}{number}"


def number_of(event_id: str) -> int | None:
    """The number of an event of ours; None for any other."""
    digits = event_id.removeprefix(PREFIX)
    return int(digits) if digits != event_id and digits.isdecimal() else None


class ChaosLedger:
    """Owner of what was seen. Any thread may call; every moment comes from `clock_s`."""

    def __init__(self, *, http_every: int, clock_s: Callable[[], float]) -> None:
        self._http_every = http_every
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._sent_s = array("d")
        self._answered_s = array("d")
        self._replied_s = array("d")
        self._labelled = array("i")
        self._num_due = 0
        self._num_labelled = 0
        self._unlabelled: set[int] = set()
        self._signs: dict[str, list[Sign]] = {track: [] for track in TRACKS}
        self.http_failures: list[tuple[float, str]] = []
        """When a request failed although it was repeated once, and why."""

    def is_http(self, number: int) -> bool:
        return number % self._http_every == 0

    def sent(self) -> int:
        """Takes down an event that is about to be sent; its number."""
        with self._lock:
            self._sent_s.append(self._clock_s())
            self._answered_s.append(math.nan)
            self._replied_s.append(math.nan)
            self._labelled.append(0)
            return len(self._sent_s) - 1

    def answered(self, number: int) -> bool:
        """Takes down an answer in the topic; whether its event's label is due now."""
        with self._lock:
            if not math.isnan(self._answered_s[number]):
                return False
            self._answered_s[number] = self._clock_s()
            if self.is_http(number):
                return False
            self._signs[KAFKA].append(Sign(self._sent_s[number], self._answered_s[number]))
            self._num_due += 1
            return True

    def replied(self, number: int, begun_s: float, *, can_be_labelled: bool = True) -> None:
        """Takes down the HTTP reply to a request that was begun at `begun_s`; its event's label is due now, if any."""
        with self._lock:
            self._replied_s[number] = self._clock_s()
            self._signs[HTTP].append(Sign(begun_s, self._replied_s[number]))
            if can_be_labelled:
                self._num_due += 1
            else:
                self._unlabelled.add(number)

    def http_failed(self, why: str) -> None:
        with self._lock:
            self.http_failures.append((self._clock_s(), why))

    def labelled(self, number: int) -> None:
        """Takes down that the broker has a copy of the label of an event."""
        with self._lock:
            self._num_labelled += not self._labelled[number]
            self._labelled[number] += 1

    def lived(self, track: str, begun_s: float) -> None:
        """Takes down that something on `track` was done which was begun after `begun_s`."""
        with self._lock:
            self._signs[track].append(Sign(begun_s, self._clock_s()))

    @property
    def num_sent(self) -> int:
        return len(self._sent_s)

    @property
    def num_unanswered(self) -> int:
        """Events without an answer: by Kafka in the topic, by HTTP a reply."""
        with self._lock:
            return len(self._sent_s) - self._num_due - len(self._unlabelled)

    @property
    def num_unlabelled(self) -> int:
        """Answered events whose label the broker has not acknowledged."""
        with self._lock:
            return self._num_due - self._num_labelled

    def signs(self) -> Mapping[str, list[Sign]]:
        """The signs of life so far, by track, in the order in which they were done."""
        with self._lock:
            return {track: list(signs) for track, signs in self._signs.items()}

    def recovery_s(self, ended_s: float) -> float:
        """Seconds from `ended_s` until every track has lived again; infinity while one has not."""
        with self._lock:
            return recovery_s(self._signs, ended_s)

    def last(self, ended_s: float) -> str:
        """The track that lived again last."""
        with self._lock:
            return max(self._signs, key=lambda track: recovered_s(self._signs[track], ended_s))

    def silent(self, ended_s: float) -> list[str]:
        """The tracks that have not lived since `ended_s`."""
        with self._lock:
            return [track for track, signs in self._signs.items() if recovered_s(signs, ended_s) == math.inf]

    def as_sent(self) -> Sent:
        with self._lock:
            return Sent(
                sent_s=self._sent_s[:],
                answered_s=self._answered_s[:],
                replied_s=self._replied_s[:],
                labelled=self._labelled[:],
                unlabelled=frozenset(self._unlabelled),
                is_http=self.is_http,
            )
