"""The topics, read from their beginning when all is over: what the oracle believes.

events.v1, answers.v1, feedback.v1, deadletter.v1 --> TopicReader: counts by number, and what a learner would be fed
"""

import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from bench.chaos.ledger import number_of
from bench.chaos.oracle import Found
from wire.bus import Bus, Received, partition_name
from wire.records import Answer, DeadLetter, Event, Feedback

POLL_MS = 200
QUIET_S = 30.0
"""A topic that is not read to its end within this time of silence is given up."""


@dataclass(slots=True)
class TopicReader:
    """What was found."""

    answers: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    letters: list[DeadLetter] = field(default_factory=list)
    topics: defaultdict[str, list[tuple[int, Answer | Feedback]]] = field(default_factory=lambda: defaultdict(list))
    """Answers and labels by `topic/partition`, with their offsets."""
    places: dict[str, int] = field(default_factory=dict)
    """By `topic/partition/offset` the number of the event that lies there."""

    @property
    def found(self) -> Found:
        letters = [number for it in self.letters if (number := self.places.get(it.message_id)) is not None]
        return Found(answers=self.answers, dead_letters=Counter(letters), labels=self.labels)

    def take(self, received: Received[Any]) -> None:
        record = received.record
        position = received.position
        if isinstance(record, DeadLetter):
            self.letters.append(record)
            return
        partition = partition_name(position)
        number = number_of(record.id if isinstance(record, Event) else record.event_id)
        if isinstance(record, Answer | Feedback):
            self.topics[partition].append((position.offset, record))
        if number is None:
            return
        if isinstance(record, Event):
            self.places[f"{partition}/{position.offset}"] = number
        else:
            (self.answers if isinstance(record, Answer) else self.labels)[number] += 1


def read_back(bus: Bus) -> TopicReader:
    """Everything that lies in the topics now."""
    back = TopicReader()
    for received in _everything(bus):
        back.take(received)
    return back


def _everything(bus: Bus) -> Iterator[Received[Any]]:
    """All records up to where the topics end now.

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
