"""Reads the topics from their beginning when all is over. The oracle trusts these alone.

events.v1, answers.v1, feedback.v1, deadletter.v1 --> TopicContents: counts by number, and the records a learner reads
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.ledger import number_of
from bench.chaos.load import SOURCE
from bench.chaos.oracle import TopicCounts
from wire.bus import Bus, Received, partition_name
from wire.records import Answer, DeadLetter, Event, Feedback

POLL_MS = 200
QUIET_S = 30.0
"""Reading is given up when no record comes for so long before the end of a topic."""


@dataclass(slots=True)
class TopicContents:
    """The contents of the topics."""

    answers: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    num_other_labels: int = 0
    """Labels that others than the load have sent."""
    dead_letters: list[DeadLetter] = field(default_factory=list)
    topics: defaultdict[str, list[tuple[int, Answer | Feedback]]] = field(default_factory=lambda: defaultdict(list))
    """Answers and labels by `topic/partition`, with their offsets."""
    places: dict[str, int] = field(default_factory=dict)
    """The number of the event at each `topic/partition/offset`."""

    @property
    def num_records(self) -> tuple[int, int]:
        """The number of answers and of labels, whosever they are."""
        num_answers = num_labels = 0
        for name, records in self.topics.items():
            if Answer.TOPIC in name:
                num_answers += len(records)
            else:
                num_labels += len(records)
        return num_answers, num_labels

    @property
    def counts(self) -> TopicCounts:
        numbers = [self.places.get(letter.message_id) for letter in self.dead_letters]
        dead_letters = [number for number in numbers if number is not None]
        return TopicCounts(
            answers=self.answers,
            dead_letters=Counter(dead_letters),
            labels=self.labels,
            num_other_labels=self.num_other_labels,
        )

    def add(self, received: Received[Any]) -> None:
        """Adds a record."""
        record = received.record
        position = received.position
        if isinstance(record, DeadLetter):
            self.dead_letters.append(record)
            return
        partition = partition_name(position)
        number = number_of(record.id if isinstance(record, Event) else record.event_id)
        if isinstance(record, Answer | Feedback):
            self.topics[partition].append((position.offset, record))
        if isinstance(record, Feedback) and record.source != SOURCE:
            self.num_other_labels += 1
            return
        if number is None:
            return
        if isinstance(record, Event):
            self.places[f"{partition}/{position.offset}"] = number
        elif isinstance(record, Answer):
            self.answers[number] += 1
        else:
            self.labels[number] += 1


def read_back(bus: Bus) -> TopicContents:
    """Reads everything that is in the topics now."""
    back = TopicContents()
    for received in _everything(bus):
        back.add(received)
    return back


def _everything(bus: Bus) -> Iterator[Received[Any]]:
    """Yields all records up to the present ends of the topics.

    consumes: the topics; produces: records; waits for: the broker; unblocked by: the ends, or long silence
    """
    types = (Event, Answer, Feedback, DeadLetter)
    ends = {name: end for name, end in bus.end_offsets(*types).items() if end}
    with closing(bus.follow(types, {})) as follower:
        heard_s = time.monotonic()
        while ends:
            followed = follower.poll(POLL_MS)
            yield from followed.received
            if followed.received or followed.refused:
                heard_s = time.monotonic()
            if time.monotonic() - heard_s > QUIET_S:
                raise RuntimeError(f"the topics could not be read to their ends: {ends}")
            ends = {name: end for name, end in ends.items() if followed.offsets.get(name, 0) < end}
