"""Measures CLINC150, domain by domain through the live service at INT8: the accuracy in the end, and forgetting."""

from collections.abc import Iterator, Mapping

from bench.fixtures import Fixtures
from evals.results.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    figures = fixtures.demo.figures
    yield Row.of(name="clinc_continual.accuracy", value=figures["accuracy_final"], unit="%", goal=Goal(">=", 94.0))
    yield Row.of(
        name="clinc_continual.at_int8",
        value=percent_at_int8(figures["precisions"]),
        unit="% of answers",
        goal=Goal(">=", 100),
    )
    yield Row.of(name="clinc_continual.forgetting", value=figures["forgetting"], unit="points", goal=Goal("<=", 1.5))
    yield Row.of(name="clinc_continual.first_seen", value=figures["accuracy_first_seen"], unit="%")
    yield Row.of(name="clinc_continual.lost", value=figures["lost"], unit="events", goal=Goal("<=", 0))
    yield Row.of(name="clinc_continual.duplicates", value=figures["duplicates"], unit="events", goal=Goal("<=", 0))


def percent_at_int8(precisions: Mapping[str, int]) -> float:
    """Returns how many of the answers were given in INT8; a service may also answer in INT4.

    >>> percent_at_int8({"int8": 3, "int4": 1})
    75.0
    """
    return round(100 * precisions.get("int8", 0) / sum(precisions.values()), 3)
