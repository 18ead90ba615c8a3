"""Holds the two tables of a run as columns of plain numbers: 29 bytes an event, 20 bytes a label.

Labels and texts are interned: an event has their numbers, and each is kept once.
"""

from array import array
from collections.abc import Iterator

from evals.load.score import Label
from evals.streams.stream import StreamItem

UNSEEN = -1
WRONG = 0
RIGHT = 1

MAX_MS = 2**31 - 1


class Interned:
    """A sequence of texts of which each distinct one is kept once."""

    def __init__(self) -> None:
        self._places: dict[str, int] = {}
        self._distinct: list[str] = []
        self._sequence = array("i")

    def append(self, text: str) -> None:
        place = self._places.setdefault(text, len(self._distinct))
        if place == len(self._distinct):
            self._distinct.append(text)
        self._sequence.append(place)

    def __getitem__(self, number: int) -> str:
        return self._distinct[self._sequence[number]]


class Events:
    """The events by number, each with the verdict on its first answer: UNSEEN, WRONG or RIGHT."""

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
        """Adds an event; returns its number."""
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
        """Records the first answer to an event, and returns whether it is right.

        None, the answer of a service that knows no class yet, is wrong.
        """
        right = label == self.label(number)
        self.verdict[number] = RIGHT if right else WRONG
        self.latency_ms[number] = max(0, min(time_ms - self.time_ms[number], MAX_MS))
        return right

    def latencies(self, round: int, until_ms: float) -> Iterator[int]:
        """Yields the milliseconds from event to answer, for the answered events of a round before `until_ms`."""
        rows = zip(self.round, self.verdict, self.time_ms, self.latency_ms, strict=True)
        return (
            latency
            for each, verdict, time_ms, latency in rows
            if each == round and verdict != UNSEEN and time_ms < until_ms
        )


class Labels:
    """The position of each label in the feedback topic. A label that was sent twice counts where it lies first."""

    def __init__(self) -> None:
        self.ends: dict[str, int] = {}
        """The offset after the last label of each source, second copies included."""
        self.first_ms: dict[int, int] = {}
        """When the first label of each event was written, by the event's number."""
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
