"""Audits the answers topic: reads it from its beginning when all is over, and counts what is there."""

from collections.abc import Iterator
from dataclasses import dataclass

from evals.load.ledger import Ledger
from evals.load.score import Audit, audit
from wire.bus import Bus
from wire.bus.scan import every_record
from wire.records import Answer, DeadLetter


@dataclass(slots=True)
class ReadBack:
    """The audit of the answers, and the number of all dead letters in their topic."""

    audit: Audit
    dead_letters: int


def read_back(bus: Bus, ledger: Ledger) -> ReadBack:
    """Compares every answer in the topic with what was sent, and counts the dead letters."""
    num_dead_letters = 0

    def numbers() -> Iterator[int | None]:
        nonlocal num_dead_letters
        for record in every_record(bus, [Answer, DeadLetter]):
            if isinstance(record, Answer):
                yield ledger.number_of(record.event_id)
            else:
                num_dead_letters += 1

    answers = audit(ledger.progress().counts.sent, numbers())
    return ReadBack(answers, num_dead_letters)
