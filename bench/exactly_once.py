"""Measures what exactly-once answers cost: events a second with `serving.exactly_once`, in turns with at least once.

Both services are at full speed on a broker of their own, Apache Kafka, as others end no transactions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

from bench.fixtures import Fixtures
from bench.kafka_throughput import full_speed
from bench.service import apache_kafka
from bench.turns import by_turns, pair, row
from evals.results.row import Row

GOAL = 0.8
BESIDE = "at least once"


@dataclass(frozen=True, kw_only=True, slots=True)
class ExactlyOnceSize:
    """The size of the benchmark."""

    rounds: int = 5
    """Rounds of either service."""


def measure(fixtures: Fixtures) -> Iterator[Row]:
    size = fixtures.sized(ExactlyOnceSize())
    apache_kafka()
    fixtures.stop_service()
    with pair({"serving.exactly_once": True}) as (plain, exactly_once):
        measured = by_turns(partial(full_speed, plain), partial(full_speed, exactly_once), size.rounds)
    yield row("exactly_once.throughput", *measured, goal=GOAL, beside=BESIDE)
