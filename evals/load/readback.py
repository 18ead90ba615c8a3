"""The count that nobody can talk their way out of: the answers topic, read from its beginning when all is over."""

from collections.abc import Iterator
from dataclasses import dataclass

from evals.load.ledger import Ledger
from evals.load.score import Audit, audit
from wire.bus import Bus
from wire.bus.scan import every_record
from wire.records import Answer, DeadLetter


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
        for record in every_record(bus, [Answer, DeadLetter]):
            if isinstance(record, Answer):
                yield ledger.number_of(record.event_id)
            else:
                letters += 1

    found = audit(ledger.progress().counts.sent, numbers())
    return ReadBack(found, letters)
