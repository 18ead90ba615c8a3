"""The count that nobody can talk their way out of: the answers topic, read from its beginning when all is over."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from services.demo.ledger import Ledger
from services.demo.score import Audit, audit
from wire.bus import Bus
from wire.records import Answer, DeadLetter

POLL_MS = 200
QUIET_S = 3.0
"""A topic that still has something, as the broker says, but gives nothing for so long, has nothing for us."""


@dataclass(slots=True)
class ReadBack:
    """What was found. `dead_letters` are all of the topic's."""

    found: Audit
    dead_letters: int


def read_back(bus: Bus, ledger: Ledger) -> ReadBack:
    """Compares every answer in the topic with what was sent, and counts the dead letters."""
    letters = 0

    def numbers() -> Iterator[int | None]:
        nonlocal letters
        for record in every_record(bus):
            if isinstance(record, Answer):
                yield ledger.number_of(record.event_id)
            else:
                letters += 1

    found = audit(ledger.progress().counts.sent, numbers())
    return ReadBack(found, letters)


def every_record(bus: Bus) -> Iterator[Answer | DeadLetter]:
    """All of the topics of answers and of dead letters, from their beginning to their end.

    consumes: both topics; produces: records; waits for: the broker; unblocked by: the end of the topics
    """
    with closing(bus.follow([Answer, DeadLetter], {})) as follower:
        heard_s = time.monotonic()
        while True:
            received = follower.poll(POLL_MS).received
            yield from (each.record for each in received)
            if received:
                heard_s = time.monotonic()
            elif not follower.lag() or time.monotonic() - heard_s > QUIET_S:
                return
