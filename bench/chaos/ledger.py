"""Records the events, answers and labels of the load, by the number of the event, in compact arrays of numbers.

    pacer: record_sent --> asker: record_reply | reader: record_answer --> labeller: record_label --> judge: as_sent

An event's id is `chaos-<number>`; its text and label follow from the number.
"""

import math
import threading
from array import array
from collections.abc import Callable, Iterable, Mapping

from bench.chaos.judge import Heartbeat, Sent, recovered_s, recovery_s
from bench.chaos.synced import PREFIX
from evals.load.ledger import EventIds

HTTP = "http"
KAFKA = "kafka"
LEARNER = "learner"
ROLLOUT = "rollout"
TRACKS = (HTTP, KAFKA, LEARNER, ROLLOUT)
"""The kinds of work that must make progress: answers over HTTP and over Kafka, the learner's count of labels, and the
plan's revision."""


IDS = EventIds(PREFIX.removesuffix("-"))


class ChaosLedger:
    """Owns the records of the load. Any thread may call it; every time comes from `clock_s`."""

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
        self._excused: set[int] = set()
        self._revisions = array("q")
        self._answered_again_s: dict[int, float] = {}
        self._heartbeats: dict[str, list[Heartbeat]] = {track: [] for track in TRACKS}
        self.http_failures: list[tuple[float, str]] = []
        """The time and the reason of each request that failed although it was repeated once."""

    def is_http(self, number: int) -> bool:
        return number % self._http_every == 0

    def record_sent(self) -> int:
        """Records an event that is about to be sent; returns its number."""
        with self._lock:
            self._sent_s.append(self._clock_s())
            self._answered_s.append(math.nan)
            self._replied_s.append(math.nan)
            self._labelled.append(0)
            return len(self._sent_s) - 1

    def record_answer(self, number: int) -> bool:
        """Records an answer from the topic; returns whether the label of its event is due now."""
        with self._lock:
            if not math.isnan(self._answered_s[number]):
                self._answered_again_s.setdefault(number, self._clock_s())
                return False
            self._answered_s[number] = self._clock_s()
            self._excused.discard(number)
            if self.is_http(number):
                return False
            self._heartbeats[KAFKA].append(Heartbeat(self._sent_s[number], self._answered_s[number]))
            self._num_due += 1
            return True

    def record_lost(self, numbers: Iterable[int]) -> None:
        """Records that a power cut has taken events or their answers. Events without an answer are not waited for."""
        with self._lock:
            for number in numbers:
                if not self.is_http(number) and math.isnan(self._answered_s[number]):
                    self._excused.add(number)

    def record_reply(self, number: int, begun_s: float, *, revision: int = 0, can_be_labelled: bool = True) -> None:
        """Records the HTTP reply to a request that was begun at `begun_s`. `revision` is the revision of its plan.

        If the event can be labelled, its label is due now.
        """
        with self._lock:
            self._replied_s[number] = self._clock_s()
            self._heartbeats[HTTP].append(Heartbeat(begun_s, self._replied_s[number]))
            self._revisions.append(revision)
            if can_be_labelled:
                self._num_due += 1
            else:
                self._unlabelled.add(number)

    def record_http_failure(self, reason: str) -> None:
        with self._lock:
            self.http_failures.append((self._clock_s(), reason))

    def record_label(self, number: int) -> None:
        """Records that the broker has acknowledged a copy of an event's label."""
        with self._lock:
            self._num_labelled += not self._labelled[number]
            self._labelled[number] += 1

    def record_heartbeat(self, track: str, begun_s: float) -> None:
        """Records that work on `track` is done that was begun after `begun_s`."""
        with self._lock:
            self._heartbeats[track].append(Heartbeat(begun_s, self._clock_s()))

    def answered_again_s(self, number: int) -> float:
        """Returns when the second answer to an event was seen in the topic; NaN if there was none."""
        with self._lock:
            return self._answered_again_s.get(number, math.nan)

    @property
    def num_sent(self) -> int:
        return len(self._sent_s)

    @property
    def num_unanswered(self) -> int:
        """The number of events without an answer in the topic (Kafka) or without a reply (HTTP)."""
        with self._lock:
            return len(self._sent_s) - self._num_due - len(self._unlabelled) - len(self._excused)

    @property
    def num_excused(self) -> int:
        """The number of events without an answer that are excused: a lost tail had the event or its answer."""
        with self._lock:
            return len(self._excused)

    def answered_since_s(self) -> float:
        """Returns the seconds since the last answer over Kafka; infinity before the first answer."""
        with self._lock:
            answers = self._heartbeats[KAFKA]
            return self._clock_s() - answers[-1].done_s if answers else math.inf

    @property
    def num_unlabelled(self) -> int:
        """The number of answered events whose label the broker has not acknowledged."""
        with self._lock:
            return self._num_due - self._num_labelled

    def heartbeats(self) -> Mapping[str, list[Heartbeat]]:
        """Returns the heartbeats so far, by track, in the order in which their work was done."""
        with self._lock:
            return {track: list(heartbeats) for track, heartbeats in self._heartbeats.items()}

    def replies(self) -> list[tuple[Heartbeat, int]]:
        """Returns the replies over HTTP, each with the revision of its plan."""
        with self._lock:
            return list(zip(self._heartbeats[HTTP], self._revisions, strict=True))

    def recovery_s(self, ended_s: float) -> float:
        """Returns the seconds from `ended_s` until every track has a heartbeat again; infinity if a track has none."""
        with self._lock:
            return recovery_s(self._heartbeats, ended_s)

    def last_recovered(self, ended_s: float) -> str:
        """Returns the track that recovered last."""
        with self._lock:
            return max(self._heartbeats, key=lambda track: recovered_s(self._heartbeats[track], ended_s))

    def silent(self, ended_s: float) -> list[str]:
        """Returns the tracks without a heartbeat since `ended_s`."""
        with self._lock:
            return [track for track in TRACKS if recovered_s(self._heartbeats[track], ended_s) == math.inf]

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
