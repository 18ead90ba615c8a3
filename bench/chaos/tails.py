"""Finds which events, answers and labels were in the tails that power cuts took. Pure.

Tails of a cut --whole batches that are left--> what is lost --ids in it--> LostTails, by the number of the event
"""

import re
import struct
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from bench.chaos.synced import Tail
from wire.records import Answer, Event, Feedback

LOG = re.compile(r"kafka/logs/(?P<topic>.+)-\d+/\d+\.log")
"""A segment of a partition."""

OFFSETS = "__consumer_offsets"
"""The topic of what is committed: where its tail is lost, events are answered again."""

PREFIX = "chaos-"
"""What the id of an event of ours begins with."""

BATCH_START = struct.Struct(">qi")
"""The base offset of a batch, and its bytes after these two."""

FIELD = re.compile(rb'"event_id":"chaos-(\d+)"')
"""What names the event in an answer and in a label."""

HEADER = re.compile(rb"ce_id(.)chaos-(\d+)", re.DOTALL)
"""The header of an event that names it: before the id comes twice its length, and digits may follow it."""


@dataclass(slots=True)
class LostTails:
    """What all power cuts so far have taken, by the number of the event; an answer in a spool counts as an answer."""

    events: Counter[int] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    labels: Counter[int] = field(default_factory=Counter)
    num_bytes: int = 0
    synced_s: float = 0.0
    """The wall clock when what the last cut has taken of the broker was synced last; the time of the cut for others."""

    @property
    def numbers(self) -> set[int]:
        """The events of which something was lost."""
        return self.events.keys() | self.answers.keys() | self.labels.keys()

    @property
    def sizes(self) -> dict[str, int]:
        """The number of events, answers and labels in the tails, and their bytes."""
        return {
            "events": self.events.total(),
            "answers": self.answers.total(),
            "labels": self.labels.total(),
            "bytes": self.num_bytes,
        }

    def add(self, tails: Iterable[Tail], *, cut_s: float) -> None:
        """Adds what a cut at `cut_s`, by the wall clock, has taken."""
        kept = {Event.TOPIC: self.events, Answer.TOPIC: self.answers, Feedback.TOPIC: self.labels}
        self.synced_s = cut_s
        for tail in tails:
            self.num_bytes += len(tail.lost)
            match = LOG.fullmatch(tail.path)
            topic = match["topic"] if match else ""
            if topic in kept:
                data = tail.written[end_of_batches(tail) :]
                kept[topic].update(events_in(data) if topic == Event.TOPIC else named_in(data))
            elif tail.path.endswith(".spool"):
                self.answers.update(named_in(tail.lost))
            if topic in kept or topic == OFFSETS:
                self.synced_s = min(self.synced_s, tail.synced_s)


def end_of_batches(tail: Tail) -> int:
    """Returns the end of the last batch that a segment has kept whole: the broker cuts it off there."""
    end = 0
    while end + BATCH_START.size <= tail.kept:
        _, num_bytes = BATCH_START.unpack_from(tail.written, end)
        if num_bytes <= 0 or end + BATCH_START.size + num_bytes > tail.kept:
            break
        end += BATCH_START.size + num_bytes
    return end


def named_in(data: bytes) -> list[int]:
    """Returns the number of the event that each answer or label names."""
    return [int(digits) for digits in FIELD.findall(data)]


def events_in(data: bytes) -> list[int]:
    """Returns the number of each event.

    >>> events_in(b"ce_id" + bytes([2 * len("chaos-17")]) + b"chaos-1788")
    [17]
    """
    return [int(digits[: length[0] // 2 - len(PREFIX)]) for length, digits in HEADER.findall(data)]
