"""Measures CLINC150, domain by domain through the live service at INT8: the accuracy in the end, and forgetting."""

from collections.abc import Iterator

from bench.fixtures import Fixtures
from bench.row import Goal, Row


def measure(fixtures: Fixtures) -> Iterator[Row]:
    figures = fixtures.demo.figures
    yield Row(name="clinc_continual.accuracy", value=figures["accuracy_final"], unit="%", goal=Goal(">=", 94.0))
    yield Row(name="clinc_continual.forgetting", value=figures["forgetting"], unit="points", goal=Goal("<=", 1.5))
    yield Row(name="clinc_continual.first_seen", value=figures["accuracy_first_seen"], unit="%")
    yield Row(name="clinc_continual.lost", value=figures["lost"], unit="events", goal=Goal("<=", 0))
    yield Row(name="clinc_continual.duplicates", value=figures["duplicates"], unit="events", goal=Goal("<=", 0))
