"""Records the events, answers and labels of a run, by the number of the event.

    player: record_event --> labeller: record_answer, record_label --> player: wait --> view: progress, figures: rest

An event's id is `<run>-<number>`, which does not reveal the label. The records are columns of numbers, 29 bytes for an
event and 20 bytes for a label, so that a run of millions of events stays small. Labels and texts are interned: each
distinct string is stored once, and an event has its index.
"""

import math
import threading
from array import array
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from evals.load.curve import Curve, Point
from evals.load.oracle import AskedEvent
from evals.load.score import Hits, Label, Throughput
from evals.streams.stream import StreamItem
from wire.records import Answer, ArmName, Feedback

UNSEEN = -1
WRONG = 0
RIGHT = 1

MAX_MS = 2**31 - 1


@dataclass(frozen=True, slots=True)
class EventIds:
    """Converts between the number of an event and its id, which consists of the run's name and the number."""

    run: str

    def of(self, number: int) -> str:
        return f"{self.run}-{number}"

    def number_of(self, event_id: str) -> int | None:
        """Returns the number of an event of this run, or None for another id.

        >>> ids = EventIds("demo")
        >>> ids.number_of(ids.of(7)), ids.number_of("demo-x"), ids.number_of("other-7")
        (7, None, None)
        """
        run, _, digits = event_id.rpartition("-")
        return int(digits) if run == self.run and digits.isdecimal() else None


class Interned:
    """A sequence of strings in which each distinct string is stored once."""

    def __init__(self) -> None:
        self._index_of: dict[str, int] = {}
        self._distinct: list[str] = []
        self._sequence = array("i")

    def append(self, text: str) -> None:
        index = self._index_of.setdefault(text, len(self._distinct))
        if index == len(self._distinct):
            self._distinct.append(text)
        self._sequence.append(index)

    def __getitem__(self, number: int) -> str:
        return self._distinct[self._sequence[number]]


class Events:
    """The events by number. `verdict` is the verdict on the first answer: UNSEEN (no answer yet), WRONG or RIGHT."""

    def __init__(self) -> None:
        self._labels = Interned()
        self._texts = Interned()
        self.stage = array("h")
        self.round = array("h")
        self.time_ms = array("q")
        self.verdict = array("b")
        self.latency_ms = array("i")

    def __len__(self) -> int:
        return len(self.time_ms)

    def add(self, item: StreamItem, *, stage: int, round: int, time_ms: int) -> int:
        """Adds an event and returns its number."""
        self._labels.append(item.label)
        self._texts.append(item.text)
        self.stage.append(stage)
        self.round.append(round)
        self.time_ms.append(time_ms)
        self.verdict.append(UNSEEN)
        self.latency_ms.append(0)
        return len(self) - 1

    def label(self, number: int) -> str:
        return self._labels[number]

    def text(self, number: int) -> str:
        return self._texts[number]

    def judge(self, number: int, label: str | None, time_ms: int) -> bool:
        """Records the first answer to an event and returns whether it is right.

        A service that knows no class yet answers None, which is wrong.
        """
        right = label == self.label(number)
        self.verdict[number] = RIGHT if right else WRONG
        self.latency_ms[number] = max(0, min(time_ms - self.time_ms[number], MAX_MS))
        return right

    def latencies(self, round: int, since_ms: float, until_ms: float) -> Iterator[int]:
        """Yields the milliseconds from event to answer, for the answered events of a round in a span of time."""
        rows = zip(self.round, self.verdict, self.time_ms, self.latency_ms, strict=True)
        return (
            latency
            for event_round, verdict, time_ms, latency in rows
            if event_round == round and verdict != UNSEEN and since_ms <= time_ms < until_ms
        )


class Labels:
    """The position of each label in the feedback topic. If a label was sent twice, only its first copy is stored."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        """The offset after the last label in each `topic/partition`, second copies included."""
        self.first_ms: dict[int, int] = {}
        """The time at which the first label of each event was written, by the event's number."""
        self._sources: list[str] = []
        self._source = array("i")
        self._time_ms = array("q")
        self._offset = array("q")

    def __len__(self) -> int:
        return len(self._offset)

    def __iter__(self) -> Iterator[Label]:
        for source, time_ms, offset in zip(self._source, self._time_ms, self._offset, strict=True):
            yield Label(time_ms, self._sources[source], offset)

    def add(self, number: int, label: Label) -> None:
        """Records the label of event `number`."""
        if label.source not in self.ends:
            self._sources.append(label.source)
        self.ends[label.source] = max(self.ends.get(label.source, 0), label.offset + 1)
        if number not in self.first_ms:
            self.first_ms[number] = label.time_ms
            self._source.append(self._sources.index(label.source))
            self._time_ms.append(label.time_ms)
            self._offset.append(label.offset)


TRAIN = -1
FILLER = -2
"""The round numbers of training events and of fillers, which only keep the stream going.

A round r >= 0 is the test after stage r.
"""

RECENT = 500
"""The number of the last training answers over which the live latency is computed."""


class LoadCounts(NamedTuple):
    """The progress of a run, as numbers of events and labels."""

    sent: int
    answered: int
    due: int
    """The number of answered training events, whose labels are due."""
    labelled: int
    """The number of labels in the feedback topic."""

    @property
    def outstanding(self) -> int:
        """The number of events that wait for their answer."""
        return self.sent - self.answered


@dataclass(frozen=True, slots=True)
class Progress:
    """A consistent snapshot of a run's events, answers and labels."""

    counts: LoadCounts
    hits: Mapping[tuple[int, int], Hits]
    """The hits by (round, stage)."""
    kinds: Mapping[tuple[int, str], Hits]
    """The hits by (round, kind), for test events that have a kind."""
    arms: Mapping[ArmName, Hits]
    """The hits of training events by arm."""
    first_ms: Mapping[tuple[ArmName, int], int]
    """The time of the first answer by a version in an arm, by (arm, version)."""
    recent_ms: tuple[int, ...]
    """The latencies of the last training answers."""
    precisions: Mapping[str, int]
    """The number of events that were answered in each precision."""

    def of_round(self, number: int) -> Hits:
        """Returns the sum of the hits of a round over its stages."""
        return sum((hits for (round, _), hits in self.hits.items() if round == number), Hits())


class Ledger:
    """The records of a run. Thread-safe. `wait` checks its condition again after every answer and label."""

    def __init__(self, run: str) -> None:
        self._ids = EventIds(run)
        self._changed = threading.Condition()
        self._events = Events()
        self._labels = Labels()
        self._curve = Curve()
        self._hits: dict[tuple[int, int], Hits] = defaultdict(Hits)
        self._kinds: dict[tuple[int, str], Hits] = defaultdict(Hits)
        self._kind_of: dict[int, str] = {}
        self._arms: dict[ArmName, Hits] = defaultdict(Hits)
        self._first_ms: dict[tuple[ArmName, int], int] = {}
        self._throughput: dict[int, Throughput] = {}
        self._recent_ms: deque[int] = deque(maxlen=RECENT)
        self._precisions = Counter[str]()
        self._num_answered = 0
        self._num_due = 0

    def record_event(self, item: StreamItem, *, stage: int, time_ms: int, round: int = TRAIN) -> str:
        """Records an event that is about to be sent, and returns its id."""
        with self._changed:
            self._hits[round, stage] += Hits(sent=1)
            self._throughput.setdefault(round, Throughput(0, time_ms, time_ms))
            number = self._events.add(item, stage=stage, round=round, time_ms=time_ms)
            if round >= 0 and item.kind:
                self._kind_of[number] = item.kind
                self._kinds[round, item.kind] += Hits(sent=1)
            return self._ids.of(number)

    def number_of(self, event_id: str) -> int | None:
        """Returns the number of an event that this run has sent, or None for another id."""
        number = self._ids.number_of(event_id)
        return number if number is not None and number < len(self._events) else None

    def record_answer(self, answer: Answer, *, read_ms: int) -> int | None:
        """Records an answer that was read from the topic at `read_ms`.

        For the first answer to a training event, returns the number of the event: its label is due now. Otherwise
        returns None.
        """
        with self._changed:
            number = self.number_of(answer.event_id)
            if number is None:
                return None
            service = (answer.arm, answer.weights_version)
            self._first_ms[service] = min(answer.time_ms, self._first_ms.get(service, answer.time_ms))
            if self._events.verdict[number] != UNSEEN:
                return None
            self._judge(number, answer, read_ms)
            self._changed.notify_all()
            return number if self._events.round[number] == TRAIN else None

    def record_label(self, feedback: Feedback, source: str, offset: int) -> None:
        """Records the offset of a label in the feedback topic. `source` is `topic/partition`."""
        with self._changed:
            number = self.number_of(feedback.event_id)
            if number is not None:
                self._labels.add(number, Label(feedback.time_ms, source, offset))
                self._changed.notify_all()

    def label_of(self, number: int) -> str:
        with self._changed:
            return self._events.label(number)

    def wait(self, done: Callable[[LoadCounts], bool], timeout_s: float) -> bool:
        """Waits until `done` returns True. Returns whether `done` returned True before the timeout."""
        with self._changed:
            return self._changed.wait_for(lambda: done(self._counts()), timeout_s)

    def progress(self) -> Progress:
        with self._changed:
            return Progress(
                counts=self._counts(),
                hits=dict(self._hits),
                kinds=dict(self._kinds),
                arms=dict(self._arms),
                first_ms=dict(self._first_ms),
                recent_ms=tuple(self._recent_ms),
                precisions=dict(self._precisions),
            )

    def label_ends(self) -> dict[str, int]:
        """Returns the offset after the last label of this run, by `topic/partition`."""
        with self._changed:
            return dict(self._labels.ends)

    def labels(self) -> list[Label]:
        with self._changed:
            return list(self._labels)

    def asked(self) -> list[AskedEvent]:
        """Returns the training events with their answers and labels so far."""
        with self._changed:
            events = self._events
            numbers = [number for number, round in enumerate(events.round) if round == TRAIN]
            return [
                AskedEvent(
                    events.text(number),
                    events.label(number),
                    events.stage[number],
                    events.time_ms[number],
                    self._labels.first_ms.get(number),
                    events.verdict[number] == RIGHT,
                )
                for number in numbers
            ]

    def latencies_ms(self, *, until_s: float = math.inf, round: int = TRAIN, since_s: float = 0.0) -> list[int]:
        """Returns the milliseconds from an event of a round until its answer was read.

        Only events between `since_s` and `until_s` seconds after the first event of the run count.
        """
        with self._changed:
            started_ms = self.started_ms
            return list(self._events.latencies(round, started_ms + 1000 * since_s, started_ms + 1000 * until_s))

    def throughput(self) -> list[Throughput]:
        """Returns the throughput of each test, in which events are sent as fast as they are answered."""
        with self._changed:
            return [throughput for round, throughput in self._throughput.items() if round >= 0]

    def tests(self) -> list[Point]:
        """Returns the accuracy over all test items so far, at the end of each test."""
        with self._changed:
            progress = self.progress()
            points = []
            for round, throughput in sorted(self._throughput.items()):
                if round >= 0:
                    hits = progress.of_round(round)
                    end_s = (throughput.ended_ms - self.started_ms) / 1000
                    points.append(Point(end_s, 0.0, hits.sent, hits.right))
            return points

    def curve(self) -> list[Point]:
        """Returns the accuracy over time, for the training events."""
        with self._changed:
            return self._curve.points(self.started_ms)

    @property
    def started_ms(self) -> int:
        """The time at which the first event was sent."""
        with self._changed:
            return self._events.time_ms[0] if len(self._events) else 0

    def _counts(self) -> LoadCounts:
        return LoadCounts(len(self._events), self._num_answered, self._num_due, len(self._labels))

    def _judge(self, number: int, answer: Answer, read_ms: int) -> None:
        events = self._events
        round = self._events.round[number]
        right = events.judge(number, answer.label, read_ms)
        self._num_answered += 1
        self._precisions[answer.precision] += 1
        self._hits[round, events.stage[number]] += Hits(answered=1, right=right)
        if kind := self._kind_of.get(number):
            self._kinds[round, kind] += Hits(answered=1, right=right)
        self._throughput[round] = self._throughput[round].until(read_ms)
        if round == TRAIN:
            self._num_due += 1
            self._arms[answer.arm] += Hits(sent=1, answered=1, right=right)
            self._curve.add(events.time_ms[number], right=right)
            self._recent_ms.append(events.latency_ms[number])
