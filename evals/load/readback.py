"""Reads the topics from their beginning after a run. A run is judged by the contents of the topics only.

events.v1, answers.v1, feedback.v1, deadletter.v1 --> TopicContents: counts by the number of the event
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from wire.bus import Bus, Received, partition_name
from wire.records import Answer, DeadLetter, Event, Feedback, TopicRecord

POLL_MS = 200
QUIET_S = 30.0
"""Reading fails if no record comes for this time before the end of a topic."""


@dataclass(slots=True)
class TopicContents:
    """The contents of the topics after a run.

    `number_of` returns the number of an event by its id, or None if the event is not of the run.
    """

    number_of: Callable[[str], int | None]
    sources: tuple[str, ...] = ()
    """The sources of the run's events and labels; empty if nobody else sends any."""
    keeps: bool = False
    """Whether answers and labels are stored in `topics`, which takes a kilobyte for each."""
    answers: Counter[int] = field(default_factory=Counter)
    """The number of answers to each event."""
    labels: Counter[int] = field(default_factory=Counter)
    """The number of labels of each event."""
    num_other_labels: int = 0
    """The number of labels from other sources."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    topics: defaultdict[str, list[tuple[int, Answer | Feedback]]] = field(default_factory=lambda: defaultdict(list))
    """Answers and labels by `topic/partition`, with their offsets, if they are kept."""
    places: dict[str, int] = field(default_factory=dict)
    """The number of the event at each `topic/partition/offset`."""
    num_records: Counter[str] = field(default_factory=Counter)
    """The number of all records, also from other runs, by the name of their topic."""

    @property
    def refused(self) -> Counter[int]:
        """The number of dead letters of each event."""
        numbers = [self.places.get(letter.message_id) for letter in self.dead_letters]
        return Counter(number for number in numbers if number is not None)

    def add(self, received: Received[Any]) -> None:
        """Counts a record, and stores it if `keeps`."""
        record = received.record
        position = received.position
        self.num_records[record.TOPIC] += 1
        if isinstance(record, DeadLetter):
            self.dead_letters.append(record)
            return
        partition = partition_name(position)
        if self.keeps and isinstance(record, Answer | Feedback):
            self.topics[partition].append((position.offset, record))
        if self.sources and record.source not in self.sources:
            self.num_other_labels += isinstance(record, Feedback)
            return
        number = self.number_of(record.id if isinstance(record, Event) else record.event_id)
        if number is None:
            return
        if isinstance(record, Event):
            self.places[f"{partition}/{position.offset}"] = number
        elif isinstance(record, Answer):
            self.answers[number] += 1
        else:
            self.labels[number] += 1


def read_back(bus: Bus, contents: TopicContents, record_types: Sequence[type[TopicRecord]]) -> TopicContents:
    """Adds all records that are in these topics now to `contents`, and returns `contents`.

    Raises RuntimeError if the topics cannot be read to their ends.
    """
    for received in _everything(bus, record_types):
        contents.add(received)
    return contents


def _everything(bus: Bus, record_types: Sequence[type[TopicRecord]]) -> Iterator[Received[Any]]:
    """Yields all records up to the current ends of the topics.

    consumes: the topics; produces: records; waits for: the broker; unblocked by: the ends, or long silence
    """
    ends = {name: end for name, end in bus.end_offsets(*record_types).items() if end}
    with closing(bus.follow(record_types, {})) as follower:
        heard_s = time.monotonic()
        while ends:
            followed = follower.poll(POLL_MS)
            yield from followed.received
            if followed.received or followed.refused:
                heard_s = time.monotonic()
            if time.monotonic() - heard_s > QUIET_S:
                raise RuntimeError(f"the topics could not be read to their ends: {ends}")
            ends = {name: end for name, end in ends.items() if followed.offsets.get(name, 0) < end}
